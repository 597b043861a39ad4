"""A scan-line rasterizer with a depth buffer (numpy only, all float32)."""

import numpy as np

HALF = np.float32(0.5)


def rasterize(
    places: np.ndarray, faces: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest face at each pixel's center.

    Args:
        places: (V, 3) float32 x and y in pixels (y down) and closeness, linear on the screen, positive; a
            face with a corner of closeness <= 0 is not drawn.
        faces: (F, 3) rows of `places`.
        width, height: of the picture in pixels.

    Returns:
        Closeness (height * width,) float32, 0 where nothing is, and face (height * width,) int32, -1 there.
    """
    xs, ys, zs = (places[:, axis].take(faces.T) for axis in range(3))  # (3, F) each: corners first
    area = _twice_area(xs, ys)
    first = np.clip(np.ceil(ys.min(axis=0) - HALF), 0, height).astype(np.int32)
    last = np.clip(np.ceil(ys.max(axis=0) - HALF), 0, height).astype(np.int32)
    drawn = (abs(area) > 1e-4) & (zs.min(axis=0) > 0)

    face, step = _spans(np.where(drawn, np.maximum(last - first, 0), 0))  # one entry per face and line
    line = (first[face] + step).astype(np.float32)
    center = line + HALF
    left, right = np.full(len(face), 1e9, np.float32), np.full(len(face), -1e9, np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start, end in ((0, 1), (1, 2), (2, 0)):
            slope = (xs[end] - xs[start]) / (ys[end] - ys[start])
            offset = xs[start] - slope * ys[start]
            crosses = (ys[start][face] <= center) != (ys[end][face] <= center)
            x = offset[face] + slope[face] * center
            left = np.where(crosses, np.minimum(left, x), left)
            right = np.where(crosses, np.maximum(right, x), right)
        rise_x, rise_y = _twice_area(zs, ys) / area, _twice_area(xs, zs) / area
    begin = np.clip(np.ceil(left - HALF), 0, width).astype(np.int32)
    end = np.clip(np.ceil(right - HALF), 0, width).astype(np.int32)
    rise_x = rise_x[face]
    from_first = begin.astype(np.float32) + HALF - xs[0][face]
    at_begin = zs[0][face] + rise_x * from_first + rise_y[face] * (center - ys[0][face])

    span, step = _spans(np.maximum(end - begin, 0))  # one entry per face and pixel
    closeness = at_begin[span] + rise_x[span] * step.astype(np.float32)
    pixel = ((line * width).astype(np.int32) + begin)[span] + step
    nearest = np.zeros(width * height, np.float32)
    np.maximum.at(nearest, pixel, closeness)
    wins = closeness == nearest[pixel]
    visible = np.full(width * height, -1, np.int32)
    visible[pixel[wins]] = face[span[wins]]
    return nearest, visible


def _twice_area(xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Return (F,) signed areas, doubled, of triangles with corners (3, F)."""
    return (xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0])


def _spans(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for `lengths[i]` entries of each i in turn, the i and the place within it."""
    owner = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    before = (np.cumsum(lengths) - lengths).astype(np.int32)
    return owner, np.arange(len(owner), dtype=np.int32) - np.repeat(before, lengths)


def barycentric(
    places: np.ndarray, corners: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (N,) weights of corners 1 and 2 at screen places (x, y) of triangles `corners` (N, 3)."""
    x0, x1, x2 = places[:, 0].take(corners.T)
    y0, y1, y2 = places[:, 1].take(corners.T)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    second = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
    third = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
    return second, third
