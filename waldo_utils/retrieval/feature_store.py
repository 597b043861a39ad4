"""Features of photos on disk, however many there are: float16 rows that are appended and never move."""

import json
from pathlib import Path

import numpy as np

from waldo_utils.disk.files import flush, write_atomically

SHAPES = "shapes.json"
KINDS = {"global": np.float16, "local": np.float16, "sha256": np.uint8}  # in the order they are written


class FeatureStore:
    """Global and local features of photos that are told apart by their files' SHA-256.

    Row i of the three files `global`, `local` and `sha256` is photo i. A row counts once it is whole in all
    of them, so what a killed or cut off writer left is written over.

    Args:
        folder: of the files; made with the first rows.

    Raises:
        ValueError: the folder's `shapes.json` is damaged.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.shapes: dict[str, tuple[int, ...]] | None = None
        path = folder / SHAPES
        if path.exists():
            try:
                saved = json.loads(path.read_text(encoding="utf-8"))
                self.shapes = {name: tuple(int(side) for side in saved[name]) for name in KINDS}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} is damaged ({error})") from None

    def __len__(self) -> int:
        """Return how many rows are whole."""
        if self.shapes is None:
            return 0
        sizes = [(self._path(name), self._row_bytes(name)) for name in KINDS]
        return min(path.stat().st_size // size if path.is_file() else 0 for path, size in sizes if size)

    def append(self, digests: np.ndarray, embedding: np.ndarray, local: np.ndarray) -> None:
        """Write more rows behind the whole ones, and bring them to the disk.

        Args:
            digests: (n, 32) uint8.
            embedding: (n, D).
            local: (n, C, h, w); C may be 0.

        Raises:
            ValueError: the rows are of another shape than those there are.
        """
        parts = {"global": embedding, "local": local, "sha256": digests}
        shapes = {name: parts[name].shape[1:] for name in KINDS}
        if self.shapes is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(shapes)
            write_atomically(self.folder / SHAPES, lambda partial: partial.write_text(text, encoding="utf-8"))
            self.shapes = shapes
        if shapes != self.shapes:
            raise ValueError(f"{self.folder} holds features of shapes {self.shapes}, these are {shapes}")
        done = len(self)
        for name, kind in KINDS.items():
            with self._path(name).open("r+b" if self._path(name).exists() else "w+b") as file:
                file.truncate(done * self._row_bytes(name))
                file.seek(0, 2)
                file.write(np.ascontiguousarray(parts[name], kind).data)
                file.flush()
                flush(file.fileno())

    def array(self, name: str, rows: int | None = None) -> np.ndarray:
        """Return (rows, ...) "global", "local" or "sha256", mapped from its file; None: all whole rows.

        Raises:
            ValueError: there are fewer.
        """
        rows = len(self) if rows is None else rows
        if self.shapes is None:
            if rows:
                raise ValueError(f"{self.folder / SHAPES} is missing")
            return np.empty((0, 0), KINDS[name])
        shape, size = (rows, *self.shapes[name]), self._row_bytes(name)
        if rows == 0 or size == 0:
            return np.empty(shape, KINDS[name])
        path = self._path(name)
        held = path.stat().st_size // size if path.is_file() else 0
        if held < rows:
            raise ValueError(f"{path} holds {held} rows of {rows}")
        return np.memmap(path, KINDS[name], "r", shape=shape)

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _row_bytes(self, name: str) -> int:
        return int(np.prod(self.shapes[name], dtype=np.int64)) * np.dtype(KINDS[name]).itemsize


class Rows:
    """Rows of a stored array in an order of one's own, read from the disk when they are asked for.

    Args:
        stored: (M, ...) array, perhaps mapped from a file.
        order: (N,) rows of it.
    """

    def __init__(self, stored: np.ndarray, order: np.ndarray):
        self.stored, self.order = stored, order
        self.shape, self.dtype, self.ndim = (len(order), *stored.shape[1:]), stored.dtype, stored.ndim

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        found = self.stored[self.order[rows]]
        # One row is copied: no view of the file.
        return np.array(found) if found.ndim < self.ndim else np.asarray(found)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
