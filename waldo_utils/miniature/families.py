"""Families of look-alikes: products that share most of what they are drawn from and differ in the rest."""

import numpy as np

from waldo_utils.miniature.categories import CATEGORIES
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.objects import Model, apart, look

VARIATIONS = (
    ("decor",),
    ("decor",),
    ("decor",),
    ("part",),
    ("part",),
    ("color",),
    ("decor", "part"),
)
APART = 0.025  # least mean color difference of two look-alikes in each of the plain views
ATTEMPTS = 40


def family(seed: int, category: str, index: int, size: int = 3) -> list[Model]:
    """Build the products of one family.

    The first is drawn from the family's seed alone; each other one draws some groups (shape, part, color,
    decor), of those that the first really has, from a seed of its own, until it looks unlike all before it
    from every side that photos usually show. All are of one kind, say drip coffee makers.

    Args:
        seed: of the whole data set.
        category: a key of `CATEGORIES`.
        index: number of the family within its category.
        size: number of products.

    Raises:
        RuntimeError: no product unlike the others was found in `ATTEMPTS` draws.
    """
    base = f"{seed}/{category}/{index}"
    plan = Draws(base)
    models: list[Model] = []
    looks: list[np.ndarray] = []
    groups: set[str] = set()  # that the first product draws from
    for member in range(size):
        for attempt in range(ATTEMPTS):
            vary = plan.choice(f"vary.{member}.{attempt}", VARIATIONS) if member else ()
            if vary and groups.isdisjoint(vary):
                continue  # it would be the first product again
            draws = Draws(base, f"{base}/{member}.{attempt}", vary)
            model = CATEGORIES[category](draws).pack()
            seen = look(model)
            if all(apart(seen, other) > APART for other in looks):
                break
        else:
            raise RuntimeError(
                f"family {index} of {category} (seed {seed}) has no {member + 1} distinct products in "
                f"{ATTEMPTS} draws: make families smaller than {size}, or give the category more to draw"
            )
        if not member:
            groups = draws.groups
        models.append(model)
        looks.append(seen)
    return models
