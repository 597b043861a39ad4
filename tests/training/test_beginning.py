"""What every training starts from: the start's projections and neighbors, by photos and by the trunk's
maps."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from waldo_utils.data.splits import Split
from waldo_utils.disk import artifacts
from waldo_utils.models import trained
from waldo_utils.study import find_profile
from waldo_utils.training import beginning

SMOKE = find_profile("smoke")


class Photos(list):
    """Photos as a cache gives them."""

    def subset(self, rows):
        return Photos(self[row] for row in rows)


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(0)
    parts = {}
    for name, count in (("train", 24), ("validation", 4), ("test", 6)):
        photos = Photos(
            torch.randint(0, 256, (3, 70, 60), dtype=torch.uint8, generator=generator) for _ in range(count)
        )
        parts[name] = Split(pd.DataFrame({"label": np.arange(count) // 2}), photos)
    return parts


@pytest.mark.parametrize("views", [0, 2])
def test_the_start_is_kept_with_its_untrained_neighbors(views, split, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    study = replace(SMOKE, global_=replace(SMOKE.global_, views=views))
    begun = beginning.begin(study, split)
    if views:
        assert begun["train"].maps.maps.shape == (24, 2, 112, 4, 4)
        assert begun["test"].inputs.maps.shape[1] == 1  # the plain view
        again = beginning.with_maps(study, split)["test"].inputs
        np.testing.assert_array_equal(again[3].numpy(), begun["test"].inputs[3].numpy())
        assert begun["train"].take(np.array([5, 1])).inputs[1].equal(begun["train"].inputs[1])
    else:
        assert begun["test"].inputs is split["test"].photos
        assert beginning.with_maps(study, split) is split
    model = trained.start(study)
    length = model.local_features(beginning.some_maps(study, model, begun["train"])).norm(dim=1).mean()
    assert length.item() == pytest.approx(12, rel=0.02)
    for name in ("untrained", "principal"):
        neighbors = artifacts.load_array(study, f"global/{name}_test_neighbors")
        assert neighbors.shape == (6, 5)
        assert all(row not in found for row, found in enumerate(neighbors))
