"""Batches and triplets hold what they promise."""

import numpy as np
import pytest

from waldo_utils.training.samplers import (
    candidate_lists,
    hard_negatives,
    identity_batches,
    look_alikes,
    triplets,
)

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


def test_groups_of_look_alikes_hold_two_photos_of_each_product():
    negatives = [np.flatnonzero(label != LABELS)[:4] for label in LABELS]
    groups = look_alikes(LABELS, negatives, 2, np.random.default_rng(0))
    assert groups.shape == (len(LABELS) // 4, 2, 2)
    assert (LABELS[groups[..., 0]] == LABELS[groups[..., 1]]).all()
    assert (groups[..., 0] != groups[..., 1]).all()
    first, second = LABELS[groups[:, 0, 0]], LABELS[groups[:, 1, 0]]
    assert (first != second).all()
    assert all(b in {LABELS[n] for i in np.flatnonzero(LABELS == a) for n in negatives[i]}
               for a, b in zip(first, second, strict=True))  # fmt: skip


def test_groups_are_filled_with_other_products_where_look_alikes_are_few():
    negatives = [np.flatnonzero(LABELS != label)[:1] for label in LABELS]  # one look-alike each
    groups = look_alikes(LABELS, negatives, 3, np.random.default_rng(0))
    assert all(len(set(LABELS[group[:, 0]])) == 3 for group in groups)
    with pytest.raises(ValueError, match="choose from 2"):
        look_alikes(LABELS, negatives, 100, np.random.default_rng(0))


def test_candidate_lists_pair_each_photo_with_its_own_and_one_of_each_other_product():
    lists = candidate_lists(groups=2, products=3, rng=np.random.default_rng(0))
    assert lists.shape == (12, 4)
    assert sorted(lists[:, 0]) == list(range(12))
    assert (lists[:, 1] == lists[:, 0] ^ 1).all()  # the two photos of a product stand side by side
    products = lists // 2  # 0, 1, 2 in the first group; 3, 4, 5 in the second
    assert all(set(row[1:]) == ({0, 1, 2} if row[0] < 3 else {3, 4, 5}) for row in products.tolist())
