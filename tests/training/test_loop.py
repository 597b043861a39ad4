"""Training learns, keeps frozen what is frozen, and resumes to the same result."""

import contextlib
import itertools
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from waldo_utils.data import transforms
from waldo_utils.models import starting_weights
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.matching import length_weight
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact, features, reranking
from waldo_utils.retrieval.batches import CropBatches
from waldo_utils.study import PROFILES
from waldo_utils.training import global_training, loop, reranker_training, validation

STUDY = PROFILES["smoke"]
IMAGE = replace(
    STUDY.global_,
    start="random",
    size=32,
    resize=32,
    batch=8,
    epochs=2,
    crop_scale=(0.8, 1.0),
    learning_rate=3e-3,
)
RERANKER = replace(STUDY.reranker, group=2, groups=4, negatives=5)
LABELS = np.repeat(np.arange(8), 4)


class Photos(list):
    """Photos of eight products: each its own four colors, a little off."""


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 255, (8, 3, 2, 2))
    made = Photos()
    for label in LABELS:
        noisy = patterns[label] + rng.normal(0, 20, (3, 2, 2))
        made.append(torch.from_numpy(np.kron(noisy, np.ones((1, 20, 20))).clip(0, 255).astype(np.uint8)))
    return made


def new_model(seed=0):
    torch.manual_seed(seed)
    return ImageModel("efficientnet_lite0")


def train(photos, folder, epochs, model=None, validate=lambda: 0.5, settings=IMAGE):
    model = model or new_model()
    log = global_training.train_global(
        model, photos, LABELS, replace(settings, epochs=epochs), 0, validate, folder / "state.pt"
    )
    return model, log


def test_the_global_model_learns(photos, tmp_path):
    settings = replace(IMAGE, start="imagenet", batch=16, learning_rate=5e-4)
    model = starting_weights.image_model(settings)
    _, log = train(photos, tmp_path, epochs=24, model=model, settings=settings)
    assert log.epoch.tolist() == list(range(25))
    # At most 0.007 of it in 24 trainings (8 seeds, 3 instruction sets); at 3e-3 it hangs on the roundings.
    assert log.loss.iloc[-5:].mean() < 0.5 * log.loss.iloc[1]


class Failing(Photos):
    """Photos that interrupt the program at the n-th look at one."""

    def __init__(self, photos, looks):
        super().__init__(photos)
        self.looks = looks

    def __getitem__(self, i):
        self.looks -= 1
        if self.looks < 0:
            raise KeyboardInterrupt
        return super().__getitem__(i)


@pytest.fixture
def clock(monkeypatch):
    """Let each look at the clock take a second, and save the state every three seconds."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    monkeypatch.setattr(loop, "SAVE_EVERY", 2.5)


def assert_same(first, second):
    """Compare two trainings, each (state dict, log), bit for bit."""
    for key, value in first[0].items():
        assert torch.equal(value, second[0][key]), key
    pd.testing.assert_frame_equal(
        first[1].drop(columns="seconds"), second[1].drop(columns="seconds"), check_exact=True
    )


def score(model):
    """Return a validation score that the weights decide, without a network."""
    return lambda: float(model.global_head.weight.detach().sum().sin().abs())


@pytest.mark.parametrize("micro_batch, start, optimizer", [(None, "random", "adamw"), (4, "imagenet", "sgd")])
def test_a_killed_training_ends_like_an_undisturbed_one(
    photos, tmp_path, clock, micro_batch, start, optimizer
):
    settings = replace(IMAGE, batch=4, micro_batch=micro_batch, start=start, optimizer=optimizer)

    def run(photos, checkpoint, seed=0):
        model = new_model(seed)
        log = global_training.train_global(
            model, photos, LABELS, settings, 0, score(model), tmp_path / checkpoint
        )
        return model.state_dict(), log

    whole = run(photos, "whole.pt")
    assert len(whole[1]) == 3
    for looks in (25, 40):  # of 64, four a step: in the first epoch's seventh step, in the second's third
        checkpoint = f"killed{looks}.pt"
        with pytest.raises(KeyboardInterrupt):
            run(Failing(photos, looks), checkpoint)
        step = torch.load(tmp_path / checkpoint, weights_only=True)["step"]
        assert step == {25: 6, 40: 0}[looks]
        resumed = run(photos, checkpoint, seed=9)
        assert_same(whole, resumed)
    assert_same(whole, run(Failing(photos, 0), "whole.pt", seed=9))  # a finished one trains no more


def test_the_seconds_of_an_epoch_add_up_over_its_parts(photos, tmp_path, clock):
    settings = replace(IMAGE, batch=4, epochs=1)
    for kept in (Failing(photos, 14), photos):
        try:
            log = global_training.train_global(
                new_model(), kept, LABELS, settings, 0, lambda: 0.5, tmp_path / "state.pt"
            )
        except KeyboardInterrupt:
            continue
    assert log.seconds.tolist() == [0.0, 9.0]  # one per step and one at the end


@pytest.mark.parametrize("finetune, group, looked", [(False, None, 12), (True, None, 12), (True, 2, 4)])
def test_a_killed_training_of_the_reranker_ends_like_an_undisturbed_one(
    photos, tmp_path, clock, finetune, group, looked
):
    embedding, _ = features.extract_features(new_model(), photos, transforms.TestTransform(32, 32))
    neighbors, _ = exact.nearest_neighbors(embedding, 8)
    settings = replace(RERANKER, triplets=4, group=group, groups=1, epochs=2, finetune_epochs=2)

    def run(photos, checkpoint, seed=0):
        model, reranker = new_model(seed), RerankingTransformer(layers=2, feedforward=32)
        log = reranker_training.train_reranker(
            model, reranker, photos, LABELS, neighbors, settings, IMAGE, 0,
            lambda: float(reranker.score.weight.detach().sum().sin().abs()), tmp_path / checkpoint, finetune,
        )  # fmt: skip
        return model.state_dict() | reranker.state_dict(), log

    whole = run(photos, "whole.pt")
    for step in (
        4,
        12,
    ):  # of 16, `looked` photos each: in the first epoch's fifth step, in the second's fifth
        looks = step * looked + 2
        with pytest.raises(KeyboardInterrupt):
            run(Failing(photos, looks), f"{looks}.pt")
        assert torch.load(tmp_path / f"{looks}.pt", weights_only=True)["step"] == 3
        assert_same(whole, run(photos, f"{looks}.pt", seed=9))


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other"])
def test_a_broken_checkpoint_is_refused_by_name(photos, tmp_path, damage):
    path = tmp_path / "state.pt"
    train(photos, tmp_path, epochs=1)
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello", "other": whole}[damage]
    )
    if damage == "other":
        torch.save({"weights": {}}, path)
    with pytest.raises(
        ValueError, match=r"state\.pt is no whole checkpoint .*: delete it and run the training again"
    ):
        train(photos, tmp_path, epochs=1)


@pytest.mark.parametrize("precision, bound", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_gradient_caching_gives_the_gradients_of_the_whole_batch(precision, bound, monkeypatch):
    monkeypatch.setattr(global_training, "autocast", contextlib.nullcontext)
    batch = torch.rand(8, 3, 32, 32, dtype=precision, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 4])
    gradients = []
    for size in (
        None,
        3,
    ):  # parts of 3, 3 and 2: what float32 rounds differently in them grows through the layers
        model = new_model().eval().to(precision)
        global_training.global_gradients(model, batch, labels, replace(IMAGE, micro_batch=size))
        gradients.append([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 40
    whole, cached = (torch.cat(parts) for parts in gradients)
    assert (whole - cached).norm() <= bound * whole.norm()


def test_gradient_caching_refuses_a_batchnorm_that_trains(photos, tmp_path):
    with pytest.raises(
        ValueError, match="micro_batch 4 needs BatchNorm and dropout in eval mode, but backbone.bn1"
    ):
        global_training.train_global(
            new_model(), photos, LABELS, replace(IMAGE, micro_batch=4), 0, lambda: 0.5, tmp_path / "state.pt"
        )


def test_any_number_of_threads_gives_the_same_photos(photos):
    batches = [np.array([0, 5, 9]), np.array([3, 3]), np.array([8]), np.array([1, 2])]
    crops = CropBatches(photos, batches, transforms.TrainTransform(16), seed=3)
    alone = list(crops.loader(threads=0))
    assert [len(batch) for batch in alone] == [3, 2, 1, 2]
    assert alone[0].dtype == torch.uint8
    for threads in (1, 3):
        assert all(a.equal(b) for a, b in zip(alone, crops.loader(threads=threads), strict=True))
    assert all(a.equal(b) for a, b in zip(alone[2:], crops.loader(start=2, threads=1), strict=True))
    with pytest.raises(KeyboardInterrupt):
        list(
            CropBatches(Failing(photos, 4), batches, transforms.TrainTransform(16), seed=3).loader(threads=1)
        )


def test_the_epoch_that_validation_likes_best_is_kept(photos, tmp_path):
    start = {k: v.clone() for k, v in new_model().state_dict().items()}
    scores = iter([0.9, 0.1, 0.1])
    model, _ = train(photos, tmp_path, epochs=2, validate=lambda: next(scores))
    assert all(torch.equal(model.state_dict()[key], value) for key, value in start.items())


def test_watching_test_is_logged_and_chooses_nothing(photos, tmp_path):
    transform, kept = transforms.TestTransform(32, 32), {}
    model, start = new_model(), new_model().state_dict()
    held_out, test = iter([0.9, 0.1, 0.1]), iter([0.1, 0.2, 0.9])
    log = global_training.train_global(
        model, photos, LABELS, IMAGE, 0, lambda: next(held_out), tmp_path / "state.pt",
        watch=lambda epoch: {"test R@1": next(test)},
    )  # fmt: skip
    assert log["test R@1"].tolist() == [0.1, 0.2, 0.9]
    assert all(torch.equal(model.state_dict()[key], value) for key, value in start.items())
    seen = validation.watch_test(3, model, photos, LABELS, transform, keep=kept.__setitem__)
    assert seen == {"test R@1": validation.global_recall(model, photos, LABELS, transform)}
    assert kept[3].shape == (2, len(LABELS))


def test_first_hits_differ_where_a_duplicate_is_of_another_product():
    embedding = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    # Photos 0 and 1 are duplicates of two products, 2 and 3 of one. By position, photos 1 and 3 find
    # themselves.
    by_row, by_position = validation.first_hits(embedding, np.array([0, 1, 2, 2]))
    assert by_row.tolist() == [False, False, True, True]
    assert by_position.tolist() == [False, True, True, True]


def test_batchnorm_stays_still_unless_the_start_is_random(photos, tmp_path):
    model = new_model()
    before = model.backbone.bn1.running_mean.clone()
    settings = replace(IMAGE, start="imagenet", epochs=1)
    global_training.train_global(model, photos, LABELS, settings, 0, lambda: 0.5, tmp_path / "state.pt")
    assert torch.equal(model.backbone.bn1.running_mean, before)


@pytest.mark.parametrize("finetune", [False, True])
def test_frozen_trains_the_local_head_and_the_reranker_only(photos, tmp_path, finetune):
    model, reranker = new_model(), RerankingTransformer(layers=2, feedforward=32)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    transform = transforms.TestTransform(32, 32)
    embedding, _ = features.extract_features(model, photos, transform)
    neighbors, _ = exact.nearest_neighbors(embedding, 8)
    log = reranker_training.train_reranker(
        model, reranker, photos, LABELS, neighbors, RERANKER, IMAGE, 0,
        lambda: validation.reranked_recall(model, reranker, photos, LABELS, transform, neighbors) * 0 + 0.5,
        tmp_path / "state.pt", finetune,
    )  # fmt: skip
    assert len(log) == 2
    changed = {
        key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == ({"backbone", "local_head"} if finetune else {"local_head"})
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_pair_scores_are_those_of_single_pairs():
    torch.manual_seed(0)
    local = torch.randn(6, 128, 2, 2).numpy().astype(np.float16)
    neighbors = np.array([[1, 2, 3], [0, 5, 4], [3, 1, 0], [2, 1, 0], [5, 0, 1], [4, 0, 1]])
    scores = reranking.pair_scores(reranking.match_maps, local, local, neighbors, batch=4)
    for query in range(6):
        for k in range(3):
            pair = [torch.from_numpy(local[i][None]).float() for i in (query, neighbors[query, k])]
            assert scores[query, k] == pytest.approx(reranking.match_maps(*pair).item(), abs=5e-3)
    with pytest.raises(ValueError, match="6 queries but 5 neighbor lists"):
        reranking.pair_scores(reranking.match_maps, local, local, neighbors[:5])


def test_local_matching_by_hand():
    """Two patches: the long one finds itself, the short one nothing; a gallery of the short one alone is no
    match."""
    query = torch.tensor([[3.0, 0.0], [0.0, 1.0]])[None, :, None]  # (1, D, 1, 2): patches (3, 0) and (0, 1)
    gallery = torch.tensor([[1.0], [0.0]])[None, :, None]  # one patch (1, 0)
    assert reranking.match_maps(query, gallery).item() == pytest.approx(3 / 4)
    assert reranking.match_maps(gallery, query).item() == pytest.approx(1.0)  # the other way round
    assert reranking.match_maps(query * 0, gallery).item() == 0.0
    for power, expected in ((0.0, 1 / 2), (1.0, 3 / 4), (2.0, 9 / 10)):
        weight = partial(length_weight, power=power)
        assert reranking.match_maps(query, gallery, weight).item() == pytest.approx(expected)
    assert reranking.match_maps(query, gallery, both_ways=True).item() == pytest.approx((3 / 4 + 1) / 2)


def test_the_fusion_weight_is_chosen_where_recall_is_best():
    labels = np.array([0, 0, 1, 1])
    neighbors = np.array([[2, 1], [2, 0], [0, 3], [0, 2]])
    similarities = np.tile(np.array([0.9, 0.8], np.float32), (4, 1))
    helpful = np.tile(np.array([0.0, 1.0], np.float32), (4, 1))  # the scores alone are right
    assert reranking.choose_weight(neighbors, similarities, helpful, labels) == 0.0
    assert reranking.choose_weight(neighbors, -similarities * 9, helpful * -1, labels) > 0
