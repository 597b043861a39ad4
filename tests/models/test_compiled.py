"""Compiled modules give torch's numbers for batches of any length, and tell nobody that they do."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from waldo_utils.models.inference import Compiled


class Pair(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return first * 2 + second, first.sum(dim=1)


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_batches_of_any_length_are_computed_in_parts(count):
    compiled = Compiled(Pair(), [torch.zeros(3, 4), torch.zeros(3, 4)])
    first, second = torch.arange(4.0 * count).view(count, 4), torch.ones(4, count).T
    added, summed = compiled(first, second)
    assert torch.equal(added, first * 2 + second)
    assert torch.equal(summed, first.sum(dim=1))


def test_nothing_is_told_to_anybody(tmp_path):
    script = (
        "import torch; from waldo_utils.models.inference import Compiled; "
        "print(Compiled(torch.nn.ReLU(), [torch.zeros(1, 2)])(torch.ones(1, 2)))"
    )
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | home, capture_output=True, text=True, check=True
    )
    assert "1., 1." in found.stdout
    assert not list(tmp_path.iterdir())  # where OpenVINO would keep what it counts
