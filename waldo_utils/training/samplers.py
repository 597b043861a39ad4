"""What a training batch holds: identity batches for the global model; triplets or groups of look-alikes for
the reranker."""

from collections.abc import Iterator

import numpy as np


def identity_batches(
    labels: np.ndarray,
    batch: int,
    photos_per_product: int,
    rng: np.random.Generator,
    families: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yield one epoch of batches that hold several photos of each of their products.

    Every photo comes up at most once; the photos left over when a product's photos are divided into
    groups, and the groups left over when these are divided into batches, are other ones each epoch.

    Args:
        labels: (N,) product of each photo.
        batch: photos per batch.
        photos_per_product: photos of one product in a batch.
        rng: decides the order.
        families: (N,) a family of products for each photo: those of one family follow each other, so that
            look-alikes meet in a batch. None: products meet by chance, as published.

    Yields:
        (batch,) rows of `labels`, the photos of one product side by side.

    Raises:
        ValueError: the batch is not a whole number of groups, or the data do not fill one batch.
    """
    if batch % photos_per_product:
        raise ValueError(
            f"a batch of {batch} photos cannot hold {photos_per_product} of each product: make it a multiple"
        )
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # shuffled within each product
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) != 0])
    groups = [
        photos[i : i + photos_per_product]
        for photos in np.split(order, starts[1:])
        for i in range(0, len(photos) - photos_per_product + 1, photos_per_product)
    ]
    per_batch = batch // photos_per_product
    if len(groups) < per_batch:
        raise ValueError(
            f"a batch of {batch} photos needs {per_batch} groups of {photos_per_product} photos, "
            f"the data have {len(groups)}: make the batch smaller"
        )
    shuffled = rng.permutation(len(groups))
    if families is not None:
        family = families[[groups[g][0] for g in shuffled]]
        rank = dict(zip(rng.permutation(np.unique(family)).tolist(), range(len(family)), strict=False))
        shuffled = shuffled[np.argsort([rank[f] for f in family.tolist()], kind="stable")]
    for i in range(0, len(groups) - per_batch + 1, per_batch):
        yield np.concatenate([groups[g] for g in shuffled[i : i + per_batch]])


def hard_negatives(neighbors: np.ndarray, labels: np.ndarray, count: int) -> list[np.ndarray]:
    """List, for each photo, those of its first `count` neighbors that show another product.

    Args:
        neighbors: (N, K) rows of `labels`, nearest first, the photo itself left out.
        labels: (N,) product of each photo.
        count: how many neighbors to look at.

    Raises:
        ValueError: the neighbor lists are shorter than `count`.
    """
    if neighbors.shape[1] < count:
        raise ValueError(
            f"hard negatives from the first {count} neighbors need as many, got {neighbors.shape[1]}"
        )
    first = neighbors[:, :count]
    return [row[labels[row] != label] for row, label in zip(first, labels, strict=True)]


def triplets(
    labels: np.ndarray, negatives: list[np.ndarray], count: int | None, rng: np.random.Generator
) -> np.ndarray:
    """Draw one epoch of triplets: an anchor, another photo of its product, a hard negative.

    Args:
        labels: (N,) product of each photo.
        negatives: for each photo the rows its negative is drawn from (see `hard_negatives`).
        count: number of triplets; None: every photo that has a positive and a negative is an anchor once.
        rng: decides the draws.

    Returns:
        (T, 3) rows of `labels`: anchor, positive, negative.

    Raises:
        ValueError: no photo has both a positive and a negative.
    """
    photos_of, usable = _anchors(labels, negatives)
    if count is None or count <= len(usable):
        anchors = rng.permutation(usable)[:count]
    else:
        anchors = rng.choice(usable, count)
    drawn = np.empty((len(anchors), 3), dtype=np.int64)
    for row, anchor in enumerate(anchors):
        same = photos_of[labels[anchor]]
        drawn[row] = anchor, rng.choice(same[same != anchor]), rng.choice(negatives[anchor])
    return drawn


def look_alikes(
    labels: np.ndarray, negatives: list[np.ndarray], products: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw one epoch of groups of look-alike products, two photos of each; as many photos as there are, or
    just fewer.

    A group grows around an anchor, each photo being one at most once: its product, and products of its hard
    negatives; where these are too few, any others.

    Args:
        labels: (N,) product of each photo.
        negatives: for each photo the rows its look-alikes are drawn from (see `hard_negatives`).
        products: of a group, at least two.
        rng: decides the draws.

    Returns:
        (G, products, 2) rows of `labels`.

    Raises:
        ValueError: too few products have two photos, or no photo has both another photo of its product and a
            hard negative.
    """
    photos_of, usable = _anchors(labels, negatives)
    paired = np.array([label for label, photos in photos_of.items() if len(photos) > 1])
    if not 2 <= products <= len(paired):
        raise ValueError(
            f"a group of {products} products: choose from 2 to the {len(paired)} that have two photos"
        )
    groups = []
    for anchor in rng.permutation(usable)[: max(len(labels) // (2 * products), 1)]:
        near = np.intersect1d(labels[negatives[anchor]], paired)
        chosen = [labels[anchor], *rng.permutation(near)[: products - 1]]
        others = np.setdiff1d(paired, chosen)
        chosen += rng.permutation(others)[: products - len(chosen)].tolist()
        pairs = [rng.permutation(photos_of[label])[:2] for label in chosen]
        if anchor not in pairs[0]:
            pairs[0][0] = anchor
        groups.append(pairs)
    return np.array(groups)


def candidate_lists(groups: int, products: int, rng: np.random.Generator) -> np.ndarray:
    """Make each photo of a batch of groups an anchor, with its product's other photo and one photo of each
    other product.

    Args:
        groups, products: of the batch; its photos are (groups, products, 2) in that order.
        rng: decides which photo of another product.

    Returns:
        (groups * products * 2, products + 1) places in the batch: anchor, the right candidate, the wrong
        ones.
    """
    place = np.arange(groups * products * 2).reshape(groups, products, 2)
    lists = []
    for group in place:
        for product, pair in enumerate(group):
            others = np.delete(group, product, axis=0)  # (products - 1, 2)
            for anchor, right in (pair, pair[::-1]):
                lists.append(
                    [anchor, right, *others[np.arange(products - 1), rng.integers(0, 2, products - 1)]]
                )
    return np.array(lists)


def _anchors(labels: np.ndarray, negatives: list[np.ndarray]) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Return the photos of each product, and the photos that have both another one of theirs and a hard
    negative."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) != 0])
    photos_of = {labels[group[0]]: group for group in np.split(order, starts[1:])}
    usable = np.array(
        [i for i in range(len(labels)) if len(photos_of[labels[i]]) > 1 and len(negatives[i])], dtype=int
    )
    if not len(usable):
        raise ValueError(
            "no photo has both another photo of its product and a hard negative: use more neighbors"
        )
    return photos_of, usable
