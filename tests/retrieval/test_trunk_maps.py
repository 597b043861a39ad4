"""Features and trainings from a trunk's maps are those from the photos."""

import numpy as np
import pytest
import torch

from waldo_utils.data.transforms import TestTransform, TrainTransform
from waldo_utils.models.image_model import ImageModel
from waldo_utils.retrieval import features, trunk_maps
from waldo_utils.retrieval.batches import CropBatches

PLAIN, CROP = TestTransform(64, 64), TrainTransform(64, scale=(0.3, 1.0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ImageModel("efficientnet_lite0", dim=8).eval()


@pytest.fixture(scope="module")
def photos():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (3, 70, 60), dtype=torch.uint8, generator=generator) for _ in range(5)]


@pytest.fixture(scope="module")
def maps(model, photos):
    return trunk_maps.compute_trunk_maps(model, photos, PLAIN, CROP, views=3, seed=2, batch=2)


def test_the_plain_view_gives_the_features_of_the_photos(model, photos, maps):
    assert maps.shape == (5, 3, 112, 4, 4)
    assert maps.dtype == np.float16
    expected = features.extract_features(model, photos, PLAIN)
    found = features.extract_features(model, trunk_maps.TrunkMaps(maps), None)
    for value, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(value.astype(float), right.astype(float), atol=3e-3)
    average = features.average_maps(model, trunk_maps.TrunkMaps(maps), None)
    np.testing.assert_allclose(average, features.average_maps(model, photos, PLAIN), atol=3e-3)


def test_a_killed_computation_goes_on_to_the_same_maps(model, photos, maps, tmp_path, monkeypatch):
    class Killed(list):
        def __getitem__(self, i):
            if i == 3:
                raise KeyboardInterrupt
            return super().__getitem__(i)

    monkeypatch.setattr("waldo_utils.disk.resumable.SAVE_EVERY", -1.0)
    settings = {
        "plain": PLAIN,
        "crop": CROP,
        "views": 3,
        "seed": 2,
        "batch": 2,
        "partial": tmp_path / "partial",
    }
    with pytest.raises(KeyboardInterrupt):
        trunk_maps.compute_trunk_maps(model, Killed(photos), **settings)
    seen = []
    whole = trunk_maps.trunk_of(model)
    monkeypatch.setattr(
        trunk_maps, "trunk_of", lambda model: lambda batch: seen.append(len(batch)) or whole(batch)
    )
    again = trunk_maps.compute_trunk_maps(model, photos, **settings)
    assert sum(seen) == 3 * 3  # the first batch of two photos is kept
    np.testing.assert_array_equal(again, maps)


def test_a_subset_and_its_draws_are_of_the_rows_asked_for(maps):
    some = trunk_maps.TrunkMaps(maps).subset(np.array([4, 1]))
    assert len(some) == 2
    np.testing.assert_array_equal(some[1].numpy(), maps[1, 0])
    drawn = some.draw([0, 1, 0, 1, 0, 1, 0, 1], torch.Generator().manual_seed(0)).numpy()
    views = {
        (row, view)
        for row in (4, 1)
        for view in range(3)
        for d in drawn
        if np.array_equal(d, maps[row, view])
    }
    assert {row for row, _ in views} == {4, 1}
    assert len({view for _, view in views}) > 1  # not the plain one alone


def test_training_batches_are_crops_of_photos_and_views_of_maps(photos, maps):
    batches = [np.array([0, 3]), np.array([2])]
    from_photos = trunk_maps.training_batches(photos, batches, CROP, seed=5)
    assert type(from_photos) is CropBatches
    from_maps = trunk_maps.training_batches(trunk_maps.TrunkMaps(maps), batches, CROP, seed=5)
    first, second = from_maps.loader()
    assert first.shape == (2, 112, 4, 4)
    assert second.shape == (1, 112, 4, 4)
    torch.testing.assert_close(next(from_maps.loader(start=1)), second)  # resumes anywhere


def test_a_backbone_without_a_trunk_is_refused(photos):
    with pytest.raises(ValueError, match="TimmBackbone has no trunk to compute once: set `views` to 0"):
        trunk_maps.compute_trunk_maps(ImageModel("timm:resnet18", dim=8), photos, PLAIN)
