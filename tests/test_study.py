"""The profiles, by name."""

import pytest

from waldo_utils.study import PROFILES, find_profile


def test_a_profile_is_found_by_its_name():
    assert find_profile("smoke") is PROFILES["smoke"]


def test_an_unknown_profile_is_told_which_there_are():
    with pytest.raises(ValueError, match="unknown profile 'smok': choose one of mini, smoke, photos"):
        find_profile("smok")
