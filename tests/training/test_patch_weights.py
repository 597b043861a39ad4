"""Weights of patches that are learned: they start as lengths, and backdrops that are swapped teach them the
product."""

from functools import partial

import numpy as np
import pytest
import torch

from waldo_utils.models.matching import PatchWeight, length_weight
from waldo_utils.retrieval.reranking import match_maps
from waldo_utils.study import PlaceStage
from waldo_utils.training import patch_weights
from waldo_utils.training.patch_weights import WeightedMatching, swapped_lists, train_on_swapped_backdrops

LABELS, PLACE = np.repeat(np.arange(6), 2), np.tile([0, 1], 6)


def test_a_learned_weight_starts_as_the_length():
    local = torch.randn(3, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = match_maps(local, local.roll(1, 0), length_weight)
    torch.testing.assert_close(match_maps(local, local.roll(1, 0), PatchWeight(8)), expected)


def test_a_list_has_the_product_elsewhere_and_others_in_the_same_place():
    lists = swapped_lists(LABELS, PLACE, 3, np.random.default_rng(0))
    assert sorted(lists[:, 0]) == list(range(12))
    anchor, right, wrong = lists[:, 0], lists[:, 1], lists[:, 2:]
    assert (LABELS[right] == LABELS[anchor]).all() and (PLACE[right] != PLACE[anchor]).all()
    assert (PLACE[wrong] == PLACE[anchor][:, None]).all() and (LABELS[wrong] != LABELS[anchor][:, None]).all()
    assert all(len(set(row)) == 5 for row in lists.tolist())


@pytest.mark.parametrize("labels, wrong", [(np.arange(12), 3), (LABELS, 6)])
def test_lists_that_cannot_be_drawn_are_refused(labels, wrong):
    with pytest.raises(
        ValueError, match=f"product .* in place .* {wrong} are needed, share places among more"
    ):
        swapped_lists(labels, PLACE, wrong, np.random.default_rng(0))


def drawn_maps():
    """Each photo: one patch of its product and three of its place, which are longer; a mark tells which is
    which."""
    rng = np.random.default_rng(1)
    product, place = rng.normal(size=(6, 14)), rng.normal(size=(2, 3, 14))
    maps = np.zeros((12, 16, 2, 2), np.float32)
    for i, (label, room) in enumerate(zip(LABELS, PLACE, strict=True)):
        patches = [np.r_[4, 0, product[label]], *(np.r_[0, 4, 1.5 * patch] for patch in place[room])]
        maps[i] = np.array(patches).T.reshape(16, 2, 2)
    return maps


def test_swapped_backdrops_teach_which_patch_is_the_product(tmp_path):
    maps = drawn_maps()
    local = torch.from_numpy(maps)
    torch.manual_seed(0)
    score = WeightedMatching(local)
    weights = lambda: score.weight(local.flatten(2).transpose(1, 2)).detach()  # noqa: E731
    assert weights()[:, 0].max() < weights()[:, 1:].max()
    settings = PlaceStage(anchors=12, wrong=3)
    losses = []
    log = train_on_swapped_backdrops(
        score,
        score.rates(0.05),
        maps,
        LABELS,
        PLACE,
        settings,
        20,
        0,
        partial(len, losses),
        tmp_path / "state.pt",
    )
    assert log.loss.iloc[-1] < log.loss.iloc[1] / 2
    assert (weights()[:, 0] > weights()[:, 1:].amax(dim=1)).all()


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    maps, ends = drawn_maps(), []
    settings = PlaceStage(anchors=6, wrong=3)
    gradients = patch_weights.list_gradients

    def train(score, state):
        train_on_swapped_backdrops(
            score, [(score, 0.01)], maps, LABELS, PLACE, settings, 3, 0, lambda: 0.0, tmp_path / state
        )
        ends.append(score.weight.layer.weight.detach().clone())

    steps = iter(range(3))

    def killed(*arguments):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return gradients(*arguments)

    train(WeightedMatching(torch.from_numpy(maps)), "undisturbed.pt")
    monkeypatch.setattr(patch_weights, "list_gradients", killed)
    with pytest.raises(KeyboardInterrupt):
        train(WeightedMatching(torch.from_numpy(maps)), "killed.pt")
    monkeypatch.setattr(patch_weights, "list_gradients", gradients)
    train(WeightedMatching(torch.from_numpy(maps)), "killed.pt")
    assert ends[0][0, :-1].abs().sum() > 0
    torch.testing.assert_close(*ends)


def test_the_shift_starts_where_pairs_have_a_mean_logit_of_zero():
    local = torch.from_numpy(drawn_maps())
    score = WeightedMatching(local)
    assert score(local, local.roll(-1, dims=0)).mean().item() == pytest.approx(0.0, abs=1e-4)
    assert patch_weights.MATCHING == score.scale.item()
