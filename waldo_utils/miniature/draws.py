"""Random draws by name: a value depends on the seed and its own name, never on the order of draws."""

from collections.abc import Sequence
from hashlib import blake2b


class Draws:
    """Named random draws, the same for any order, number of processes and library version.

    A look-alike shares most draws with its family and takes some groups from a seed of its own: a draw's
    group is the first dotted part of its name ("kind", "shape", "part", "color", "decor").

    Args:
        seed: seed of all draws.
        own: seed of the groups in `vary`.
        vary: groups that come from `own`.
    """

    def __init__(self, seed: str, own: str | None = None, vary: tuple[str, ...] = ()):
        self.seed = seed
        self.own = own
        self.vary = vary
        self.groups: set[str] = set()  # the groups drawn from so far

    def _hash(self, name: str) -> int:
        """Return 56 bits that belong to the name."""
        group = name.split(".", 1)[0]
        self.groups.add(group)
        seed = self.own if group in self.vary else self.seed
        return int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=7).digest(), "big")

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * ((self._hash(name) >> 3) / 2.0**53)  # 53 bits: more would round up to 1

    def integer(self, name: str, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""
        return low + int(self.uniform(name) * (high - low + 1))

    def chance(self, name: str, probability: float = 0.5) -> bool:
        """Return True with the given probability."""
        return self.uniform(name) < probability

    def choice(self, name: str, options: Sequence | str):
        """Return one of the options; a string holds them separated by spaces, repeated to be likelier."""
        if isinstance(options, str):
            options = options.split()
        return options[int(self.uniform(name) * len(options))]

    def bits(self, name: str) -> int:
        """Return 48 random bits, a seed for another generator."""
        return self._hash(name) >> 8
