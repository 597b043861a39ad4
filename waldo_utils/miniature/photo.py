"""Take a photo of a product."""

import numpy as np
from PIL import Image

from waldo_utils.miniature.backdrop import Backdrop
from waldo_utils.miniature.develop import develop
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.scene import aim, arrange, light_up
from waldo_utils.miniature.shading import Lighting, box_blur, shade_world

SUPERSAMPLING = 2
SAME_ROOM = 0.3  # share of a product's photos that are taken in its own room


def photograph(
    model: Model,
    draws: Draws,
    size: int,
    difficulty: float = 1.0,
    room: Draws | None = None,
    place: Draws | None = None,
) -> tuple[Image.Image, np.ndarray]:
    """Take one photo of a product.

    Args:
        model: the packed product.
        draws: decide camera, light, background, clutter and development.
        size: longer side of the photo in pixels.
        difficulty: 0 is a plain photo of the front; 1 has odd angles, clutter and camera faults.
        room: draws of the product's own room, where some of its photos are taken; None: always another room.
        place: draws of a place that other products stand in too: its floor, wall, clutter and light; None:
            each photo draws its own.

    Returns:
        The RGB photo, and (height, width) float32 the share of each pixel that shows the product.
    """
    world = arrange(model, draws, difficulty, place)
    camera = aim(world, draws, size, difficulty)
    lighting = Lighting(world, light_up(place or draws, difficulty), size)
    at_home = room is not None and draws.chance("same_room", SAME_ROOM)
    backdrop = Backdrop(camera, place or (room if at_home else draws))
    behind = lighting.on_backdrop(backdrop, place or draws).reshape(camera.height, camera.width, 3)
    behind = _out_of_focus(behind, backdrop, camera, draws, size)
    picture, product = shade_world(world, camera, lighting, backdrop.floor_color, draws, SUPERSAMPLING)
    light = picture[..., :3] + behind * (1 - picture[..., 3:])
    return develop(light, draws, difficulty), product


def _out_of_focus(behind: np.ndarray, backdrop: Backdrop, camera, draws: Draws, size: int) -> np.ndarray:
    """Blur what is far behind the product, in some photos."""
    aperture = draws.uniform("aperture", -1.5, 2.5)
    if aperture < 0.4:
        return behind
    far = np.clip((backdrop.reach / np.float32(camera.distance) - np.float32(1.15)) * 2, 0, 1)
    far = far.reshape(camera.height, camera.width, 1)
    blurred = np.stack([box_blur(behind[..., c], aperture * size / 256 + 0.5) for c in range(3)], axis=2)
    return behind * (1 - far) + blurred * far
