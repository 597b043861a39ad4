"""The threshold that says whether a product is in the catalogue: how it is kept, and what it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # an index that is up to date does not wait for torch
    from waldo_utils.app.searching import Answer, Gallery

EVIDENCE = ("best similarity", "best score", "gap to the second product", "mean of five scores")


@dataclass(frozen=True)
class Threshold:
    """Weighted evidence below `value` says "probably not in the catalogue".

    The rates are counted on products that chose neither weights nor value; their bounds are 95 % intervals
    over products.
    """

    value: float
    weights: tuple[float, ...]  # of EVIDENCE, in log odds per unit
    false_accept: float  # share of absent products taken for present
    false_accept_low: float
    false_accept_high: float
    false_reject: float  # share of present products taken for absent
    false_reject_low: float
    false_reject_high: float
    queries: int  # photos asked, each once with its product in the gallery and once without
    products: int  # of these photos

    def margin(self, answer: Answer, gallery: Gallery) -> float:
        """Return by how much, in log odds, a search's evidence is above the threshold."""
        found = evidence(answer.similarities, answer.scores, gallery.products[answer.rows])
        return float(found @ np.array(self.weights)) - self.value


def evidence(similarities: np.ndarray, scores: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Return the (4,) numbers of EVIDENCE of one search.

    Args:
        similarities, scores, products: (K,) of the shortlist. Where all are of one product, the last score
            stands for the second product's.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    others = ranked[products[order] != products[order[0]]]
    second = others[0] if len(others) else ranked[-1]
    return np.array([similarities.max(), ranked[0], ranked[0] - second, ranked[:5].mean()], dtype=np.float64)
