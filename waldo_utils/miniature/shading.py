"""Light on the backdrop and on the product: soft shadows, diffuse light, highlights, reflections (float32).

Samples of the product are channels first, (3, N): numpy is several times faster on long rows.
"""

from dataclasses import dataclass

import numpy as np

from waldo_utils.miniature.backdrop import Backdrop
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.raster import barycentric, rasterize
from waldo_utils.miniature.scene import Camera, Light, World, frame

SHADOW = np.float32(0.9)  # share of the key light that a full shadow takes from the product
SHADOW_BIAS = np.float32(0.02)
SHADOW_TAPS = ((-0.7, -0.5), (0.7, 0.5), (0.5, -0.7), (-0.5, 0.7))


def box_blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Return a (h, w) image blurred twice by a box of whole `radius` (at least 1) in each direction."""
    radius = max(int(radius), 1)
    width = 2 * radius + 1
    for _ in range(4):  # down, across, down, across
        padded = np.pad(image, ((radius + 1, radius), (0, 0)), mode="edge")
        total = padded.cumsum(axis=0, dtype=np.float64)
        image = ((total[width:] - total[:-width]) / width).T
    return image.astype(np.float32)


def unit_columns(vectors: np.ndarray) -> np.ndarray:
    """Return (3, N) vectors of length one."""
    return vectors / np.sqrt(np.maximum(dot(vectors, vectors), np.float32(1e-12)))


def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the (N,) products of (3, N) or (3, 1) vectors."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


@dataclass
class DepthMap:
    """How far the world reaches along a direction, seen in parallel rays."""

    axes: np.ndarray  # (3, 3) float32 rows: x, y, along the direction
    height: np.ndarray  # (size, size) reach, above `base`; 0 where nothing is
    scale: float  # pixels per length
    offset: np.ndarray  # (2,) added before scaling
    base: float

    def pixels(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (N,) x, y in pixels and reach above `base` of (N, 3) points."""
        seen = points @ self.axes.T
        x = (seen[:, 0] + np.float32(self.offset[0])) * np.float32(self.scale)
        y = (seen[:, 1] + np.float32(self.offset[1])) * np.float32(self.scale)
        return x, y, seen[:, 2] - np.float32(self.base)


def depth_map(world: World, direction: np.ndarray, up: tuple, size: int) -> DepthMap:
    """Return the depth map of the world towards a direction, with a margin of a quarter around it."""
    axes = frame(direction, up)
    seen = world.vertices @ axes.T
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = 0.25 * (high - low).max()
    scale = (size - 1) / (max(high[0] - low[0], high[1] - low[1]) + 2 * margin)
    offset = np.array([margin - low[0], margin - low[1]])
    places = np.empty(seen.shape, np.float32)
    places[:, :2] = (seen[:, :2] + offset) * scale
    places[:, 2] = seen[:, 2] - low[2] + 1
    height, _ = rasterize(places, world.faces, size, size)
    return DepthMap(
        axes.astype(np.float32), height.reshape(size, size), float(scale), offset, float(low[2] - 1)
    )


def _bilinear(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (N,) samples of a square image, clamped at its edges."""
    size = image.shape[0]
    x, y = np.clip(x, 0, size - 1.001), np.clip(y, 0, size - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    right_share, lower_share = x - left.astype(np.float32), y - top.astype(np.float32)
    flat, at = image.ravel(), top * size + left
    upper = flat[at] * (1 - right_share) + flat[at + 1] * right_share
    lower = flat[at + size] * (1 - right_share) + flat[at + size + 1] * right_share
    return upper * (1 - lower_share) + lower * lower_share


class Lighting:
    """Light and shadows of one photo."""

    def __init__(self, world: World, light: Light, size: int):
        self.light = light
        self.shadow = depth_map(world, light.direction, (0, 0, -1), size * 5 // 8)
        shaded = (self.shadow.height > 0).astype(np.float32)
        self.sharp = box_blur(shaded, light.softness * 0.6 + 0.5)
        self.soft = box_blur(shaded, light.softness * 2.5 + 2)
        self.occluder = box_blur(self.shadow.height, 4) / np.maximum(box_blur(shaded, 4), 1e-3)
        self.below = depth_map(world, np.array([0, -1, 0]), (0, 0, 1), size * 5 // 16)
        clearance = np.maximum(-(self.below.height + self.below.base), 0)  # of the underside above the floor
        contact = np.where(self.below.height > 0, np.exp(-clearance / 0.12), 0)
        self.contact = box_blur(contact.astype(np.float32), 3)

    def on_backdrop(self, backdrop: Backdrop, draws: Draws) -> np.ndarray:
        """Return (N, 3) colors of the backdrop under this light."""
        light, points = self.light, backdrop.points
        x, y, reach = self.shadow.pixels(points)
        gap = np.clip((_bilinear(self.occluder, x, y) - reach) * 0.9, 0, 1)  # far from what shades it: softer
        shade = (1 - gap) * _bilinear(self.sharp, x, y) + gap * _bilinear(self.soft, x, y)
        x, y, _ = self.below.pixels(points)
        contact = _bilinear(self.contact, x, y) * backdrop.floor
        to_wall = max(float(light.direction[2]), 0.3 if backdrop.studio else 0.15)
        if backdrop.studio:  # floor and wall run into each other
            floor_share = np.clip((points[:, 2] - backdrop.wall_z) / 1.2, 0, 1)
            facing = light.direction[1] * floor_share + to_wall * (1 - floor_share)
        else:
            facing = np.where(backdrop.floor, light.direction[1], to_wall)
        fall = 1 / (1 + draws.uniform("light_fall", 0, 0.12) * (points[:, 0] ** 2 + points[:, 2] ** 2))
        direct = facing * (1 - 0.92 * np.clip(shade, 0, 1)) * fall
        ambient = 1.15 * (1 - 0.55 * contact)
        received = light.ambient * ambient[:, None] + light.key * direct[:, None]
        return backdrop.colors * received.astype(np.float32)

    def _rise(self, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how much closer to the light a surface of (3, N) normals is one pixel of the shadow map on,
        in x and y.

        Without it a slanted surface shades itself (Isidoro, "Shadow Mapping: GPU-based Tips and Techniques",
        2006).
        """
        x, y, toward = (self.shadow.axes @ normals) / np.float32(self.shadow.scale)
        steepness = -1 / np.maximum(toward * np.float32(self.shadow.scale), np.float32(0.2))
        return x * steepness, y * steepness

    def shadow_on(self, points: np.ndarray, normals: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return (N,) the share of the key light kept from (3, N) points of the world, from four taps."""
        place_x, place_y, reach = self.shadow.pixels((points + normals * SHADOW_BIAS).T)
        reach = reach + SHADOW_BIAS
        size, heights = self.shadow.height.shape[0], self.shadow.height.ravel()
        jitter = ((x.astype(np.int32) * 7 + y.astype(np.int32) * 3) % 4).astype(np.float32) * np.float32(0.5)
        jitter = jitter - np.float32(0.75)
        spread = 1 + self.light.softness * 0.4
        rise_x, rise_y = self._rise(normals)
        reach = reach - rise_x * (place_x - np.float32(0.5)) - rise_y * (place_y - np.float32(0.5))
        shade = np.zeros(len(x), np.float32)
        for tap_x, tap_y in SHADOW_TAPS:
            column = np.clip(place_x + np.float32(tap_x * spread) + jitter, 0, size - 1).astype(np.int32)
            row = np.clip(place_y + np.float32(tap_y * spread) - jitter, 0, size - 1).astype(np.int32)
            plane = reach + rise_x * column.astype(np.float32) + rise_y * row.astype(np.float32)
            shade += heights[row * size + column] > plane
        return shade * np.float32(0.25)


def shade_world(
    world: World,
    camera: Camera,
    lighting: Lighting,
    floor_color: np.ndarray,
    draws: Draws,
    supersampling: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the world without its backdrop.

    Args:
        world, camera, lighting: what, from where, in which light.
        floor_color: (3,) linear; the floor throws some of it back.
        draws: decide where a window is reflected.
        supersampling: samples per pixel and direction.

    Returns:
        (height, width, 4) linear colors times coverage, and coverage; and (height, width) the share of each
        pixel that shows the product itself.
    """
    # Which face each sample shows, and only for those that show one: an array of N samples is shaded at once.
    width, height = camera.width * supersampling, camera.height * supersampling
    places = camera.project(world.vertices)
    places[:, :2] *= supersampling
    closeness, face = rasterize(places, world.faces, width, height)
    pixel = np.flatnonzero(face >= 0)
    face = face[pixel]
    x, y = (pixel % width).astype(np.float32) + 0.5, (pixel // width).astype(np.float32) + 0.5
    points, normals, uv = _interpolate(world, places, face, x, y)

    # Thin parts are seen from behind as well: their normals turn to the camera.
    view = unit_columns(camera.eye.astype(np.float32)[:, None] - points)
    facing = dot(normals, view)
    normals = normals * np.where(facing < 0, np.float32(-1), np.float32(1))
    facing = abs(facing)
    owner = world.material_of_face[face]
    albedo = _albedo(world, owner, uv, closeness[pixel] * np.float32(camera.focal))
    constants = np.array([(m.specular, m.gloss, m.metallic, m.glow) for m in world.materials], np.float32)
    specular, gloss, metallic, glow = constants.T.take(owner, axis=1)

    # Light that arrives: the lamp, less its shadow; and the sky and the floor, less deep down, where other
    # things stand in their way.
    light = lighting.light
    direction, key, sky_light = light.direction[:, None], light.key[:, None], light.ambient[:, None]  # (3, 1)
    shade = lighting.shadow_on(points, normals, x, y)
    direct = np.maximum(dot(normals, direction), 0) * (1 - SHADOW * shade)
    bounce = floor_color[:, None] * np.float32(0.5 + 0.5 * light.key.mean())  # (3, 1)
    upward = np.float32(0.5) + np.float32(0.5) * normals[1]
    open_sky = np.clip(np.float32(0.55) + points[1] * np.float32(1.2), 0, 1)
    ambient = (sky_light * upward + sky_light * bounce * np.float32(0.8) * (1 - upward)) * open_sky

    # What a smooth surface mirrors: floor below, sky above, the lamp and one window, without which metal
    # would look like plastic.
    mirrored = 2 * facing * normals - view
    sky = np.clip(mirrored[1] * np.float32(1.4) + np.float32(0.35), 0, 1)
    around = bounce * np.float32(0.5) * (1 - sky) + (sky_light * np.float32(1.3) + np.float32(0.1)) * sky
    turn = draws.uniform("window", -3, 3)
    window = unit_columns(np.array([[np.sin(turn)], [0.5], [np.cos(turn)]], np.float32))
    sharp = np.clip(gloss / 60, 0.15, 1)
    lamp = np.clip((dot(mirrored, direction) - np.float32(0.93)) * 18 * sharp + np.float32(0.1), 0, 1)
    pane = np.clip((dot(mirrored, window) - np.float32(0.88)) * 14 * sharp + np.float32(0.1), 0, 1)
    around = around + np.float32(2.2) * lamp * (1 - shade) * key + np.float32(1.2) * pane

    # Fresnel term: Schlick, "An Inexpensive BRDF Model for Physically-based Rendering", 1994.
    # Highlight: Blinn, "Models of Light Reflection for Computer Synthesized Pictures", 1977.
    fresnel = specular + (1 - specular) * (1 - facing) ** 5 * np.minimum(1, gloss / 90)
    half = unit_columns(view + direction)
    highlight = specular * np.float32(1.5) * np.maximum(dot(normals, half), 0) ** gloss * direct
    diffuse = albedo * (ambient + key * direct)
    tinted = fresnel * (1 - metallic) + metallic * albedo * (np.float32(0.9) + np.float32(0.1) * fresnel)
    matt = diffuse * (1 - metallic) * (1 - fresnel)
    colors = matt + around * tinted + diffuse * metallic * np.float32(0.25)
    colors = colors + highlight * key * (1 - metallic) + glow * albedo  # (3, N)

    # Samples without a face stay 0: the mean over a pixel's samples is its color times its coverage.
    samples = np.zeros((5, height * width), np.float32)
    samples[:3, pixel] = colors
    samples[3, pixel] = 1
    samples[4, pixel] = face < world.product_faces
    samples = samples.reshape(5, camera.height, supersampling, camera.width, supersampling)
    picture = np.zeros((5, camera.height, camera.width), np.float32)
    for row in range(supersampling):
        for column in range(supersampling):
            picture += samples[:, :, row, :, column]
    picture = np.ascontiguousarray(picture.transpose(1, 2, 0)) * np.float32(1 / supersampling**2)
    return picture[..., :4], picture[..., 4]


def _interpolate(
    world: World, places: np.ndarray, face: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (3, N), unit normals (3, N) and uv (2, N) at pixels, correct in perspective."""
    corners = world.faces.take(face, axis=0)  # (N, 3)
    second, third = barycentric(places, corners, x, y)
    closeness = places[:, 2].copy()
    first = (1 - second - third) * closeness.take(corners[:, 0])
    second, third = second * closeness.take(corners[:, 1]), third * closeness.take(corners[:, 2])
    total = first + second + third
    values = np.concatenate([world.vertices, world.normals, world.uv], axis=1).astype(np.float32)  # (V, 8)
    mixed = np.zeros((8, len(x)), np.float32)
    for weight, corner in ((first, 0), (second, 1), (third, 2)):
        mixed += values.take(corners[:, corner], axis=0).T * (weight / total)
    return mixed[:3], unit_columns(mixed[3:6]), mixed[6:]


def _albedo(world: World, owner: np.ndarray, uv: np.ndarray, pixels_per_length: np.ndarray) -> np.ndarray:
    """Return (3, N) linear surface colors, material by material."""
    albedo = np.empty((3, len(owner)), np.float32)
    order = np.argsort(owner, kind="stable")
    cuts = np.searchsorted(owner[order], np.arange(len(world.materials) + 1))
    for index, material in enumerate(world.materials):
        own = order[cuts[index] : cuts[index + 1]]
        if len(own):
            pixel = float(1 / (np.median(pixels_per_length[own]) * world.scales[index]))
            albedo[:, own] = material.albedo(uv[0].take(own), uv[1].take(own), pixel).T
    return albedo
