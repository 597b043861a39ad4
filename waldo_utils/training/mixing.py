"""Weights between the start of a training and its end (WiSE-FT; Wortsman et al., CVPR 2022, arXiv
2109.01903).

A training on few products forgets some of what its start knew; the mean of both often keeps the best of each.
"""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the trained weights that are tried


def mixed(start: dict[str, Tensor], end: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return (1 - share) * start + share * end of two state dicts; what is no floating-point number is the
    end's."""
    return {
        key: torch.lerp(start[key], value, share) if value.is_floating_point() else value
        for key, value in end.items()
    }


def choose_share(
    model: nn.Module, start: dict[str, Tensor], end: dict[str, Tensor], validate: Callable[[], float]
) -> pd.DataFrame:
    """Load the mixture that validation likes best into a model; of equals the most trained.

    Args:
        model: takes the state dicts.
        start, end: its weights before and after a training.
        validate: recall@1 of the model as it is, on products held out from training.

    Returns:
        One row per share of the trained weights: `share`, `validation R@1`, `chosen`.
    """
    recalls = []
    for share in SHARES:
        model.load_state_dict(mixed(start, end, share))
        recalls.append(float(validate()))
    best = max(range(len(SHARES)), key=lambda i: (recalls[i], SHARES[i]))
    model.load_state_dict(mixed(start, end, SHARES[best]))
    return pd.DataFrame(
        {"share": SHARES, "validation R@1": recalls, "chosen": [i == best for i in range(len(SHARES))]}
    )
