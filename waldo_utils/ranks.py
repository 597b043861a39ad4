"""One process of several that train together: its share of the rows, and what all of them add up.

Alone, which is how everything runs unless `engines.torchrun` joins processes, each of these gives back what
it was given, and torch need not be there: the command line looks here before it knows what it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

RANK, WORLD = 0, 1  # the number of this process, and how many there are


class PeerLost(ConnectionError):
    """Another process has ended, or cannot be reached."""


@contextmanager
def _together() -> Iterator:
    """Give `torch.distributed`, and turn what its transports raise where a peer is gone into one line."""
    import torch.distributed

    try:
        yield torch.distributed
    except RuntimeError:
        raise PeerLost(
            f"process {RANK} of {WORLD} stops, because another one has ended or cannot be reached: see that"
            " one's message; the same command goes on from the last saved state, with any number of"
            " processes"
        ) from None


def first() -> bool:
    """Return whether this is the process that writes and prints."""
    return RANK == 0


def wait() -> None:
    """Wait until every process is here."""
    if WORLD > 1:
        with _together() as together:
            together.barrier()


def share(count: int, rank: int | None = None) -> slice:
    """Return which of `count` rows are this process's: one run of them, as long as the others' or one more.

    No row is anybody's twice, and with fewer rows than processes some have none.
    """
    rank = RANK if rank is None else rank
    return slice(count * rank // WORLD, count * (rank + 1) // WORLD)


def gather(own: Tensor, count: int) -> Tensor:
    """Return all (count, D) rows, of which each process has its `share`; no gradient passes."""
    if WORLD == 1:
        return own
    import torch

    most = -(-count // WORLD)
    padded = own.new_zeros(most, *own.shape[1:])
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in range(WORLD)]
    with _together() as together:
        together.all_gather(parts, padded)
    lengths = [len(range(count)[share(count, rank)]) for rank in range(WORLD)]
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def gather_arrays(own: list[np.ndarray]) -> list[np.ndarray]:
    """Return arrays joined from every process's rows of them; a process without a row gives no arrays."""
    if WORLD == 1:
        return own
    import numpy as np

    parts: list = [None] * WORLD
    with _together() as together:
        together.all_gather_object(parts, own)
    return [np.concatenate(rows) for rows in zip(*(part for part in parts if part), strict=True)]


def add_gradients(parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Give every process the sum of all processes' gradients, and return that of their losses.

    A parameter that has no gradient in any of them keeps none.
    """
    if WORLD == 1:
        return loss
    import torch

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    given = torch.tensor([parameter.grad is not None for parameter in trained]).to(loss)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = torch.cat([loss.view(1), given, *(gradient.flatten() for gradient in gradients)])
    with _together() as together:
        together.all_reduce(flat)
    loss, given, *sums = flat.split([1, len(trained), *(p.numel() for p in trained)])
    for parameter, anywhere, total in zip(trained, given.tolist(), sums, strict=True):
        parameter.grad = total.view_as(parameter) if anywhere else None
    return loss[0]


def agreed(value: float) -> float:
    """Return the first process's value, by which all of them choose alike."""
    if WORLD == 1:
        return value
    holder = [value]
    with _together() as together:
        together.broadcast_object_list(holder)
    return holder[0]


def check_same(facts: object) -> None:
    """Refuse to go on where the processes know different things.

    Raises:
        ValueError: they do, for example because their data folders are different ones.
    """
    parts: list = [facts]
    if WORLD > 1:
        parts = [None] * WORLD
        with _together() as together:
            together.all_gather_object(parts, facts)
    for rank, other in enumerate(parts):
        if other != parts[0]:
            raise ValueError(
                f"process {rank} starts from {other}, process 0 from {parts[0]}: let all of them see one data"
                " folder, and one version of the code"
            )
