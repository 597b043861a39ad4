"""The categories of rendered products: one builder each, from draws to a model."""

from collections.abc import Callable

from waldo_utils.miniature.categories import (
    bag,
    bicycle,
    bottle,
    box,
    cabinet,
    can,
    chair,
    coffee_maker,
    fan,
    jar,
    kettle,
    lamp,
    mug,
    shirt,
    shoe,
    sofa,
    stapler,
    table,
    toaster,
    tube,
)
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.objects import Model

SOP_CATEGORIES: dict[str, Callable[[Draws], Model]] = {
    "bicycle": bicycle.build, "cabinet": cabinet.build, "chair": chair.build,
    "coffee_maker": coffee_maker.build,
    "fan": fan.build, "kettle": kettle.build, "lamp": lamp.build, "mug": mug.build, "sofa": sofa.build,
    "stapler": stapler.build, "table": table.build, "toaster": toaster.build,
}  # fmt: skip
TRANSFER_CATEGORIES: dict[str, Callable[[Draws], Model]] = {
    "bottle": bottle.build, "box": box.build, "can": can.build, "jar": jar.build, "tube": tube.build,
    "bag": bag.build,
    "shoe": shoe.build, "shirt": shirt.build,
}  # fmt: skip
CATEGORIES = SOP_CATEGORIES | TRANSFER_CATEGORIES
