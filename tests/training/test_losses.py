"""The losses against closed forms, plain loops and the published code."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from waldo_utils.study import ROOT
from waldo_utils.training.losses import contrastive_loss, list_loss, pair_loss

PARITY = ROOT.parent / "shared" / "parity" / "rrt_parity.npz"


def test_contrastive_loss_of_two_separated_products_has_a_closed_form():
    # Products on orthogonal axes: similarity 1 within, 0 across; each anchor also counts itself once with 0.
    embeddings = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    loss = contrastive_loss(embeddings, torch.tensor([0, 0, 1, 1]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + 3 * math.exp(-1 / 0.5)))


def test_contrastive_loss_equals_the_sum_written_as_a_loop():
    generator = torch.Generator().manual_seed(0)
    embeddings = normalize(torch.randn(9, 5, generator=generator), dim=1)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 4])  # the last two have no positive
    total = 0.0
    for i in range(9):
        positives, everything = 0.0, 1.0
        for j in range(9):
            if i != j:
                value = math.exp(float(embeddings[i] @ embeddings[j]) / 0.1)
                everything += value
                positives += value * float(labels[i] == labels[j])
        total += -math.log(positives / everything) if positives else 0.0
    assert contrastive_loss(embeddings, labels, 0.1).item() == pytest.approx(total / 9, rel=1e-5)


def test_contrastive_loss_is_finite_in_half_precision():
    embeddings = normalize(torch.ones(4, 8), dim=1).half().requires_grad_()
    loss = contrastive_loss(embeddings, torch.tensor([0, 0, 1, 1]), temperature=0.05)
    loss.backward()
    assert math.isfinite(loss.item())
    assert embeddings.grad.isfinite().all()


def test_contrastive_loss_refuses_a_batch_without_positives():
    with pytest.raises(ValueError, match="at least 2 images per product"):
        contrastive_loss(torch.eye(3), torch.tensor([0, 1, 2]), 0.05)


@pytest.mark.skipif(not PARITY.exists(), reason="the inputs and outputs of the published code are not here")
def test_contrastive_loss_and_gradient_are_the_published_ones():
    parity = np.load(PARITY)
    embeddings = torch.from_numpy(parity["contrastive_features"]).requires_grad_()
    loss = contrastive_loss(embeddings, torch.from_numpy(parity["contrastive_labels"]), 0.05)
    loss.backward()
    assert loss.item() == pytest.approx(float(parity["contrastive_loss"]), rel=1e-6)
    np.testing.assert_allclose(embeddings.grad, parity["contrastive_grad"], atol=1e-6)


@pytest.mark.skipif(not PARITY.exists(), reason="the inputs and outputs of the published code are not here")
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_the_published_loss_survives_half_precision(half):
    parity = np.load(PARITY)
    labels = torch.from_numpy(parity["contrastive_labels"])
    assert [int((labels == label).sum()) for label in labels[-2:]] == [1, 1]  # anchors without positives
    embeddings = torch.from_numpy(parity["contrastive_features"]).to(half).requires_grad_()
    loss = contrastive_loss(embeddings, labels, 0.05)
    loss.backward()
    assert loss.item() == pytest.approx(float(parity["contrastive_loss"]), rel=2e-2)
    assert embeddings.grad.isfinite().all()
    assert torch.tensor(1 / 0.05).half().exp().isinf()  # the authors' exponential of a twin overflows


def test_pair_loss_is_the_mean_binary_cross_entropy():
    loss = pair_loss(torch.tensor([0.0, 2.0]), torch.tensor([0.0]))
    assert loss.item() == pytest.approx((2 * math.log(2) + math.log(1 + math.exp(-2))) / 3)


def test_list_loss_of_equal_scores_is_a_closed_form():
    """Equal scores of 1 + 3 candidates: log 4 over the list; per pair log 2, that of the right one
    threefold."""
    same = torch.tensor([[True, False, False, False]])
    assert list_loss(torch.zeros(1, 4), same).item() == pytest.approx(np.log(4) + 6 / 4 * np.log(2))


def test_list_loss_asks_for_the_first_candidate():
    same = torch.tensor([[True, False]])
    right, wrong = (list_loss(torch.tensor([scores]), same).item() for scores in ([2.0, -2.0], [-2.0, 2.0]))
    assert right < 0.5 < wrong
