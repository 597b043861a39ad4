"""A scan-line rasterizer with a depth buffer (numpy only, all float32)."""

import numpy as np

HALF = np.float32(0.5)


def rasterize(
    places: np.ndarray, faces: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest face at each pixel's center.

    Args:
        places: (V, 3) float32 x and y in pixels (y down) and closeness, linear on the screen, positive; a face with
            a corner of closeness <= 0 is not drawn.
        faces: (F, 3) rows of `places`.
        width, height: of the picture in pixels.

    Returns:
        Closeness (height * width,) float32, 0 where nothing is, and face (height * width,) int32, -1 there.
    """
    a, b, c = places[faces[:, 0]], places[faces[:, 1]], places[faces[:, 2]]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    y = np.stack([a[:, 1], b[:, 1], c[:, 1]])
    first = np.clip(np.ceil(y.min(axis=0) - HALF), 0, height).astype(np.int32)
    last = np.clip(np.ceil(y.max(axis=0) - HALF), 0, height).astype(np.int32)
    in_front = np.minimum(np.minimum(a[:, 2], b[:, 2]), c[:, 2]) > 0
    lines = np.where((abs(area) > 1e-4) & in_front, last - first, 0)

    face, step = _spans(np.maximum(lines, 0))  # one entry per face and line
    line = (first[face] + step).astype(np.float32)
    center = line + HALF
    left, right = np.full(len(face), 1e9, np.float32), np.full(len(face), -1e9, np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start, end in ((a, b), (b, c), (c, a)):
            slope = (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1])
            offset = start[:, 0] - slope * start[:, 1]
            crosses = (start[:, 1][face] <= center) != (end[:, 1][face] <= center)
            x = offset[face] + slope[face] * center
            left = np.where(crosses, np.minimum(left, x), left)
            right = np.where(crosses, np.maximum(right, x), right)
        rise_x = (
            (b[:, 2] - a[:, 2]) * (c[:, 1] - a[:, 1]) - (c[:, 2] - a[:, 2]) * (b[:, 1] - a[:, 1])
        ) / area
        rise_y = (
            (b[:, 0] - a[:, 0]) * (c[:, 2] - a[:, 2]) - (c[:, 0] - a[:, 0]) * (b[:, 2] - a[:, 2])
        ) / area
    begin = np.clip(np.ceil(left - HALF), 0, width).astype(np.int32)
    end = np.clip(np.ceil(right - HALF), 0, width).astype(np.int32)

    span, step = _spans(np.maximum(end - begin, 0))  # one entry per face and pixel
    at_begin = (
        a[:, 2][face]
        + rise_x[face] * (begin.astype(np.float32) + HALF - a[:, 0][face])
        + rise_y[face] * (center - a[:, 1][face])
    )
    closeness = at_begin[span] + rise_x[face][span] * step.astype(np.float32)
    pixel = ((line * width).astype(np.int32) + begin)[span] + step
    nearest = np.zeros(width * height, np.float32)
    np.maximum.at(nearest, pixel, closeness)
    wins = closeness == nearest[pixel]
    visible = np.full(width * height, -1, np.int32)
    visible[pixel[wins]] = face[span[wins]]
    return nearest, visible


def _spans(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for `lengths[i]` entries of each i in turn, the i and the place within it."""
    owner = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    before = (np.cumsum(lengths) - lengths).astype(np.int32)
    return owner, np.arange(len(owner), dtype=np.int32) - np.repeat(before, lengths)


def barycentric(
    places: np.ndarray, corners: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (N,) weights of corners 1 and 2 at screen places (x, y) of triangles `corners` (N, 3)."""
    a, b, c = places[corners[:, 0]], places[corners[:, 1]], places[corners[:, 2]]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    second = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (y - a[:, 1])) / area
    third = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (x - a[:, 0]) * (b[:, 1] - a[:, 1])) / area
    return second, third
