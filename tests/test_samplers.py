"""Batches and triplets hold what they promise."""

import numpy as np
import pytest

from waldo_utils.samplers import hard_negatives, identity_batches, triplets

LABELS = np.repeat(np.arange(6), 5)  # 6 products of 5 photos


def test_identity_batches_hold_groups_of_one_product_and_no_photo_twice():
    batches = list(identity_batches(LABELS, 4, 2, np.random.default_rng(0)))
    assert len(batches) == 6  # 6 products x 2 whole groups, two groups per batch
    used = np.concatenate(batches)
    assert len(set(used)) == len(used)
    for batch in batches:
        pairs = LABELS[batch].reshape(2, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all()


def test_identity_batches_keep_families_together():
    families = LABELS // 3
    batches = list(identity_batches(LABELS, 12, 2, np.random.default_rng(0), families))
    assert sorted(set(families[batch].tolist()).pop() for batch in batches) == [0, 1]
    assert all(len(set(families[batch])) == 1 for batch in batches)


def test_identity_batches_repeat_for_a_seed_and_differ_between_seeds():
    first, again, other = (
        np.concatenate(list(identity_batches(LABELS, 4, 2, np.random.default_rng(seed))))
        for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_identity_batches_refuse_impossible_sizes():
    with pytest.raises(ValueError, match="make it a multiple"):
        list(identity_batches(LABELS, 5, 2, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="the data have 12"):
        list(identity_batches(LABELS, 26, 2, np.random.default_rng(0)))


def test_hard_negatives_are_neighbors_of_other_products():
    labels = np.array([0, 0, 1, 1])
    neighbors = np.array([[1, 2, 3], [2, 0, 3], [3, 0, 1], [0, 1, 2]])
    found = hard_negatives(neighbors, labels, count=2)
    assert [row.tolist() for row in found] == [[2], [2], [0], [0, 1]]
    with pytest.raises(ValueError, match="got 3"):
        hard_negatives(neighbors, labels, count=4)


def test_triplets_are_an_anchor_its_product_and_a_hard_negative():
    negatives = [np.flatnonzero(label != LABELS)[:3] for label in LABELS]
    drawn = triplets(LABELS, negatives, None, np.random.default_rng(0))
    assert sorted(drawn[:, 0]) == list(range(30))  # each photo is an anchor once
    anchor, positive, negative = drawn.T
    assert (LABELS[anchor] == LABELS[positive]).all()
    assert (anchor != positive).all()
    assert all(n in negatives[a] for a, n in zip(anchor, negative, strict=True))
    assert len(triplets(LABELS, negatives, 100, np.random.default_rng(0))) == 100


def test_triplets_need_a_photo_with_both_partners():
    with pytest.raises(ValueError, match="no photo has both"):
        triplets(np.array([0, 1]), [np.array([1]), np.array([0])], None, np.random.default_rng(0))


def test_triplets_with_several_negatives_mix_easy_ones_in():
    negatives = [np.flatnonzero(LABELS != label)[:1] for label in LABELS]  # one hard negative each
    hard = triplets(LABELS, negatives, 50, np.random.default_rng(0), per_anchor=3)
    assert hard.shape == (50, 5)
    assert all(set(row[2:]) == set(negatives[row[0]]) for row in hard)
    mixed = triplets(LABELS, negatives, 50, np.random.default_rng(0), per_anchor=3, easy=0.5)
    assert (LABELS[mixed[:, 2:]] != LABELS[mixed[:, :1]]).all()
    assert any(set(row[2:]) != set(negatives[row[0]]) for row in mixed)
