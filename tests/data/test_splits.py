"""The photos of each split with their labels, in one order."""

import numpy as np
import pandas as pd
import pytest

from waldo_utils.data import photo_cache, splits
from waldo_utils.disk import artifacts
from waldo_utils.study import find_profile

STUDY = find_profile("smoke")


@pytest.fixture(autouse=True)
def four_photos(monkeypatch):
    """Photo i is one pixel of the value i."""
    manifest = pd.DataFrame(
        {"split": ["test", "train", "test", "train"], "label": [5, 6, 5, 6], "category": [*"abab"]}
    )
    cache = photo_cache.PhotoCache(np.repeat(np.arange(4, dtype=np.uint8), 3), np.ones((4, 2), np.int64))
    monkeypatch.setattr(artifacts, "load_frame", lambda study, name: manifest)
    monkeypatch.setattr(photo_cache, "open_cache", lambda folder: cache)


def test_photos_and_labels_of_a_split_are_those_of_its_rows():
    split = splits.open_splits(STUDY)
    assert list(split) == ["train", "test"]  # no validation products in there
    test = split["test"]
    assert [int(photo[0, 0, 0]) for photo in test.photos] == [0, 2]
    assert (test.labels.tolist(), test.categories.tolist()) == ([5, 5], ["a", "a"])


def test_some_photos_of_a_split_keep_their_labels_and_rows():
    part = splits.open_splits(STUDY)["train"].take(np.array([1]))
    assert (int(part.photos[0][0, 0, 0]), part.labels.tolist(), part.rows.index.tolist()) == (3, [6], [3])
