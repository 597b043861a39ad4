"""The profiles, by name."""

import os
import subprocess
import sys

import pytest

from waldo_utils.study import PROFILES, ROOT, find_profile


def test_a_profile_is_found_by_its_name():
    assert find_profile("smoke") is PROFILES["smoke"]


def test_an_unknown_profile_is_told_which_there_are():
    with pytest.raises(ValueError, match="unknown profile 'smok': choose one of mini, smoke, photos"):
        find_profile("smok")


def test_a_notebook_shows_an_unknown_profile_in_one_line(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "IPython", "-c", "from waldo_utils.study import find_profile as f; f('smok')"],
        cwd=ROOT,
        env=os.environ | {"IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    (line,) = ended.stdout.splitlines()
    assert line.startswith("ValueError: unknown profile 'smok': choose one of mini")


def test_a_profile_with_more_seeds_stands_beside_the_plain_one():
    more, plain = find_profile("smoke@3"), PROFILES["smoke"]
    assert (more.name, more.seeds, plain.seeds) == ("smoke@3", (0, 1, 2), (0,))
    assert more.summary.endswith(", 3 seeds")
    assert more.global_ == plain.global_


@pytest.mark.parametrize("name", ["smoke@", "smoke@0", "smoke@two", "smoke@-1", "smoke@3@3"])
def test_no_number_of_seeds_is_refused(name):
    with pytest.raises(ValueError, match="choose a number, as in smoke@3"):
        find_profile(name)
