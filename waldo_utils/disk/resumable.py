"""Arrays computed in hours that survive the end of the process that fills them."""

import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np
from torch import nn

from waldo_utils.disk.artifacts import write_atomically

SAVE_EVERY = 60.0  # seconds between two records of what is done


class ResumableArrays:
    """Arrays of the same number of rows, filled from the first row to the last, in memory or kept in a
    folder.

    In a folder each array is a memory-mapped .npy, and `progress.json` says how many rows are safely on the
    disk and what they are. An instance for the same content goes on after these rows, one for another content
    starts anew.

    Args:
        folder: None: in memory. It belongs to the arrays and is removed by `finish`.
        rows: of each array.
        content: whatever decides the values, as `fingerprint` gives it; in memory it is not needed.
    """

    def __init__(self, folder: Path | None, rows: int, content: str | None = None):
        self.folder = folder
        self.rows = rows
        self.content = content
        self.done = 0
        self.arrays: list[np.ndarray] = []
        self.saved = time.monotonic()
        record = self._record()
        if record and record["content"] == content:
            self.done = record["done"]
            self.arrays = [np.lib.format.open_memmap(path, "r+") for path in self._files(record["arrays"])]

    def append(self, *parts: np.ndarray) -> None:
        """Add the next rows of every array.

        Raises:
            OSError: the disk has too little room for the arrays; gives the figure.
        """
        if not self.arrays:
            self.arrays = self._new(parts)
        for array, part in zip(self.arrays, parts, strict=True):
            array[self.done : self.done + len(part)] = part
        self.done += len(parts[0])
        if self.folder and time.monotonic() - self.saved > SAVE_EVERY:
            self._save()

    def finish(self) -> list[np.ndarray]:
        """Return the arrays, all rows filled, and remove the folder."""
        if self.folder is None:
            return self.arrays
        arrays = [np.array(array) for array in self.arrays]
        self.arrays = []
        shutil.rmtree(self.folder, ignore_errors=True)
        return arrays

    def _new(self, parts: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        """Return arrays for parts of their shapes and types."""
        shapes = [(self.rows, *part.shape[1:]) for part in parts]
        if self.folder is None:
            return [np.empty(shape, part.dtype) for shape, part in zip(shapes, parts, strict=True)]
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        needed = sum(part[0].nbytes * self.rows for part in parts)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(
                f"{self.folder} needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB: make room"
            )
        return [
            np.lib.format.open_memmap(path, "w+", part.dtype, shape)
            for path, part, shape in zip(self._files(len(parts)), parts, shapes, strict=True)
        ]

    def _files(self, count: int) -> list[Path]:
        return [self.folder / f"{i}.npy" for i in range(count)]

    def _save(self) -> None:
        """Write the rows to the disk, then say so."""
        for array in self.arrays:
            array.flush()
        record = {"content": self.content, "done": self.done, "arrays": len(self.arrays)}
        write_atomically(
            self.folder / "progress.json",
            lambda partial: partial.write_text(json.dumps(record), encoding="utf-8"),
        )
        self.saved = time.monotonic()

    def _record(self) -> dict | None:
        """Return what a former process has recorded.

        Raises:
            ValueError: the record cannot be read.
        """
        if self.folder is None or not (self.folder / "progress.json").exists():
            return None
        try:
            return json.loads((self.folder / "progress.json").read_text(encoding="utf-8"))
        except ValueError:
            raise ValueError(f"{self.folder / 'progress.json'} is broken: delete {self.folder}") from None


def fingerprint(*parts: nn.Module | np.ndarray | object) -> str:
    """Return a hash of modules' weights, arrays' values and other things' `repr`."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, nn.Module):
            digest.update(fingerprint(*part.state_dict().items()).encode())
        elif isinstance(part, tuple):
            digest.update(fingerprint(*part).encode())
        elif hasattr(part, "shape"):
            array = np.ascontiguousarray(part.detach().cpu().numpy() if hasattr(part, "detach") else part)
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()
