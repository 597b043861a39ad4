"""The larger measurements on a few photos: what is written, timed and tabulated; no time is asserted."""

import os

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image
from small import page_served, small_gallery, small_models

from waldo_utils.app import demo, index, latency, searching
from waldo_utils.data.photo_cache import PhotoCache


def test_photos_repeat_in_folders_of_eight(tmp_path):
    pixels = np.repeat(np.array([50, 100, 200], dtype=np.uint8), 3 * 4 * 4)
    cache = PhotoCache(pixels, np.array([[4, 4]] * 3))
    latency.write_photos(cache, tmp_path, 10, different=2)
    paths = sorted(tmp_path.rglob("*.jpg"))
    assert [path.parent.name for path in paths] == ["product00000"] * 8 + ["product00001"] * 2
    values = []
    for path in paths:
        with Image.open(path) as photo:
            values.append(int(np.asarray(photo).mean()))
    assert values == pytest.approx([50, 100] * 5, abs=2)


def test_a_start_opens_the_models_and_the_index(tmp_path, monkeypatch):
    models = small_models()
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    latency.write_photos(
        PhotoCache(np.zeros(3 * 40 * 40, np.uint8), np.array([[40, 40]])), tmp_path / "photos", 3, 1
    )
    index.update(tmp_path / "photos", tmp_path / "index", models, "mini")
    table = latency.start_times(None, tmp_path / "index", repeats=2).set_index("step")
    assert table.index.tolist() == ["models", "index", "total"]
    assert table.share[:-1].sum() == pytest.approx(1)


def test_steps_are_summed_run_by_run():
    table = searching.step_table(pd.DataFrame({"a": [0.1, 0.3], "b": [0.1, 0.1]})).set_index("step")
    assert table["p50 ms"].tolist() == pytest.approx([200, 100, 300])
    assert table.share.tolist() == pytest.approx([2 / 3, 1 / 3, 1])


def test_a_random_gallery_can_be_searched():
    gallery = latency.random_gallery(5, Image.new("RGB", (8, 8)), dim=16, side=2)
    answer = searching.search(small_models(), gallery, Image.new("RGB", (40, 40)), depth=3)
    assert len(answer.rows) == 3
    np.testing.assert_allclose(np.linalg.norm(gallery.embedding, axis=1), 1, rtol=1e-5)


def test_visits_are_answered_one_after_another_and_at_once():
    models = small_models()
    asked = []

    class Counting(demo.Demo):
        def search(self, photo, box):
            asked.append(photo)
            return super().search(photo, box)

        def thumbnail(self, row):
            asked.append(row)
            return super().thumbnail(row)

    with page_served(Counting(models, small_gallery(models), None)) as address:
        found = latency.visits(address, psutil.Process(os.getpid()), count=3)
    assert list(found) == ["a visit, one after another", "a visit, 3 at once"]
    for table in found.values():
        assert table.step.tolist() == ["page and photo", "matches", "their pictures", "total"]
        assert table["MB"].notna().all()
    assert asked.count("0") == 7  # of these one to warm up
    assert len(asked) == 7 * (1 + 5)  # five matches, as they are first seen
