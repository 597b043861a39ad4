"""The profile `sop`, rehearsed: its settings but for sizes, through the real loader on a tiny folder of the
published form."""

from dataclasses import replace

import numpy as np
import pytest

from waldo_utils.data import photo_cache, sources, splits
from waldo_utils.disk import artifacts
from waldo_utils.evaluation import metrics
from waldo_utils.experiments import methods
from waldo_utils.miniature.datasets import render_sop
from waldo_utils.study import PROFILES
from waldo_utils.training import beginning, chain

SOP, MINI = PROFILES["sop"], PROFILES["mini"]
TINY = replace(
    SOP,
    data=replace(SOP.data, source="sop_form", cache_size=64),
    global_=replace(SOP.global_, views=2, resize=64, size=64, epochs=1, batch=16),
    reranker=replace(SOP.reranker, epochs=1, finetune_epochs=1, negatives=10, groups=2),
    evaluation=replace(SOP.evaluation, depth=5, resamples=20),
)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """What notebooks 01 to 03 leave, of 48 train and 24 test photos."""
    folder = tmp_path_factory.mktemp("published")
    drawn = {"seed": 5, "families": 3, "family_size": 2, "photos": 4, "size": 48, "difficulty": 0.3}
    root = render_sop(
        folder / "Stanford_Online_Products",
        **drawn,
        test_fraction=0.34,
        categories=("mug", "sofa", "lamp"),
        processes=1,
    )
    (root / "settings.json").unlink()  # the published folder has none
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WALDO_DATA", str(root))
        patch.setattr(artifacts, "ROOT", folder)
        manifest, found = sources.open_source(TINY.data, folder)
        photo_cache.build_cache(manifest, found, artifacts.data_folder(TINY) / "photos", TINY.data.cache_size)
        artifacts.save_frame(TINY, "data/manifest", manifest)
        split = beginning.begin(TINY, splits.open_splits(TINY))
        chain.train_every_seed(TINY, split)
        chain.rerank_every_seed(TINY, split)
        yield manifest


def test_the_profile_is_mini_on_the_published_photos():
    assert (SOP.data.source, SOP.data.cache_size) == ("sop", MINI.data.cache_size)
    assert SOP.reranker == MINI.reranker
    assert replace(SOP.global_, families_meet=MINI.global_.families_meet) == MINI.global_
    assert SOP.evaluation.depth == MINI.evaluation.depth and len(SOP.seeds) == 1


def test_the_published_counts_are_asked_of_it(rehearsed, tmp_path):
    with pytest.raises(ValueError, match="published are 59551 of 11318"):
        sources.open_source(SOP.data, tmp_path)


def test_the_chain_gives_every_row_of_the_main_table(rehearsed):
    assert "family" not in rehearsed
    products = rehearsed.groupby("split").label.nunique()
    assert products["test"] == 6 and products["train"] + products["validation"] == 12
    labels = methods.labels_of(TINY, "test")
    hits = methods.every_hit(methods.every_order(TINY), labels)
    assert list(hits) == list(methods.METHODS)
    relevant = metrics.relevant_counts(labels)
    assert relevant.tolist() == [3] * 24
    for (found,) in hits.values():
        assert found.shape == (24, 23) and (found.sum(axis=1) == 3).all()


def test_everything_that_is_computed_twice_is_kept(rehearsed):
    maps = artifacts.load_array(TINY, "global/train_maps")
    assert maps.shape[1:] == (2, 112, 4, 4) and maps.dtype == np.float16
    assert artifacts.load_array(TINY, "reranker/seed0/finetuned_test_local").shape == (24, 128, 2, 2)
