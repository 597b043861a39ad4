"""Families of look-alikes: products that share most of what they are drawn from and differ in the rest."""

from waldo_utils.miniature.categories import CATEGORIES
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.objects import Model, apart, look

VARIATIONS = (("decor",), ("decor",), ("part",), ("color",), ("decor", "color"), ("shape", "part"))
APART = 0.03  # least mean color difference of two look-alikes in plain views
ATTEMPTS = 40


def family(seed: int, category: str, index: int, size: int = 3) -> list[Model]:
    """Build the products of one family.

    The first is drawn from the family's seed alone; each other one draws some groups (shape, part, color, decor)
    from a seed of its own, until it looks unlike all before it.

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
    looks: list = []
    for member in range(size):
        for attempt in range(ATTEMPTS):
            name = f"vary.{member}.{attempt}"
            vary = plan.choice(name, VARIATIONS) if member or attempt else ()
            model = CATEGORIES[category](Draws(base, f"{base}/{member}.{attempt}", vary)).pack()
            seen = look(model)
            if all(apart(seen, other) > APART for other in looks):
                break
        else:
            raise RuntimeError(
                f"family {index} of {category} (seed {seed}) has no {member + 1} distinct products in {ATTEMPTS} draws: "
                f"make families smaller than {size}, or give the category more to draw"
            )
        models.append(model)
        looks.append(seen)
    return models
