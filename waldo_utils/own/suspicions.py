"""What may be wrong in the labels of photos: told, never mended."""

import numpy as np

from waldo_utils.app.searching import Gallery

NEAR = 95  # per cent of photos are less near to the nearest of their own product
FIRST = 10  # neighbors in which a photo should meet its product
LISTED = 30  # of each kind, the most suspicious first


def find(
    gallery: Gallery,
    neighbors: np.ndarray,
    similarities: np.ndarray,
    labels: np.ndarray,
    asked: np.ndarray,
) -> dict[str, list[dict]]:
    """Return suspicions by kind, each a small dictionary of names.

    Args:
        gallery: of N photos.
        neighbors, similarities: (N, K) of each among the others.
        labels: (N,) product of each.
        asked: (Q,) rows whose product has other photos.
    """
    same = labels[neighbors] == labels[:, None]  # (N, K)
    return {
        "near-identical photos under two products": _near(
            gallery, neighbors, similarities, same, labels, asked
        ),
        "products that may be two things": _two_things(gallery, neighbors, labels, asked),
        "photos that no photo of their product matches": _matched_by_nobody(gallery, neighbors, same, asked),
    }


def _near(
    gallery: Gallery,
    neighbors: np.ndarray,
    similarities: np.ndarray,
    same: np.ndarray,
    labels: np.ndarray,
    asked: np.ndarray,
) -> list[dict]:
    own = np.where(same, similarities, -1).max(axis=1)[asked]
    bar = np.percentile(own, NEAR)
    known = (gallery.products[neighbors] != "") & (gallery.products != "")[:, None]
    found = {}
    for row, place in np.argwhere(~same & known & (similarities >= bar)):
        pair = tuple(sorted((int(row), int(neighbors[row, place]))))
        found[pair] = float(similarities[row, place])
    best = sorted(found, key=lambda pair: (-found[pair], pair))[:LISTED]
    return [
        {
            "first": gallery.names[a],
            "second": gallery.names[b],
            "products": [str(gallery.products[a]), str(gallery.products[b])],
            "similarity": found[a, b],
        }
        for a, b in best
    ]


def _two_things(gallery: Gallery, neighbors: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> list[dict]:
    """Return products whose photos fall into groups of two or more that do not find each other among as many
    neighbors as the product has other photos."""
    found = []
    for label in np.unique(labels[asked]):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 4:
            continue
        group = dict(zip(rows.tolist(), range(len(rows)), strict=True))
        for row in rows.tolist():
            for other in neighbors[row, : len(rows) - 1].tolist():
                if other in group and group[other] != group[row]:
                    old, new = group[other], group[row]
                    group = {member: new if at == old else at for member, at in group.items()}
        parts = [
            [gallery.names[row] for row in rows if group[row] == at] for at in sorted(set(group.values()))
        ]
        if sum(len(part) > 1 for part in parts) > 1:
            found.append({"product": str(gallery.products[rows[0]]), "parts": parts})
    return found[:LISTED]


def _matched_by_nobody(
    gallery: Gallery, neighbors: np.ndarray, same: np.ndarray, asked: np.ndarray
) -> list[dict]:
    finds = same[:, :FIRST].any(axis=1)
    is_found = np.zeros(len(same), bool)
    is_found[neighbors[:, :FIRST][same[:, :FIRST]]] = True
    rows = [row for row in asked.tolist() if not finds[row] and not is_found[row]]
    return [{"photo": gallery.names[row], "product": str(gallery.products[row])} for row in rows[:LISTED]]
