"""Photos decoded once into one file, and read from there as tensors."""

import hashlib
import inspect
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from waldo_utils.data import deep_photos, reading
from waldo_utils.data.reading import READERS, UNREADABLE, read_photo, shrink
from waldo_utils.disk import contents
from waldo_utils.disk.artifacts import read_array
from waldo_utils.disk.faults import Fault, explain, refuse
from waldo_utils.disk.files import flush, rename, sha256, write_atomically
from waldo_utils.disk.locks import hold

MEMO = "files.json"  # sizes, times and hashes of the photos at the last look
DECODED = 256  # photos between two notes of how far a cache has come


class PhotoCache:
    """Decoded photos in one memory-mapped file, each in its own aspect ratio.

    Item i is photo i as a (3, h, w) uint8 tensor. Made by `build_cache`, opened by `open_cache`.
    """

    def __init__(self, pixels: np.ndarray, shapes: np.ndarray, rows: np.ndarray | None = None):
        self.pixels = pixels  # (bytes,)
        self.shapes = shapes  # (N, 2) height, width
        sizes = 3 * shapes.prod(axis=1)
        self.starts = np.cumsum(sizes) - sizes
        self.rows = np.arange(len(shapes)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Tensor:
        row = self.rows[i]
        height, width = self.shapes[row]
        start = self.starts[row]
        flat = self.pixels[start : start + 3 * height * width]
        return torch.from_numpy(np.array(flat).reshape(height, width, 3)).permute(2, 0, 1)

    def image(self, i: int) -> Image.Image:
        """Return photo i as a picture to look at."""
        return Image.fromarray(self[i].permute(1, 2, 0).numpy())

    def subset(self, rows: np.ndarray) -> "PhotoCache":
        """Return a view of some photos, in the order of `rows`."""
        return PhotoCache(self.pixels, self.shapes, self.rows[np.asarray(rows)])


class PhotoFiles:
    """Photos decoded from their files at each look: for a single pass, where a cache is not worth it.

    Item i is photo i as a (3, h, w) uint8 tensor.

    Args:
        manifest: rows with `path`.
        root: what the paths are relative to.
        size: the photos' shorter side is scaled down to so many pixels; None: they stay as they are.
    """

    def __init__(self, manifest: pd.DataFrame, root: Path, size: int | None = None):
        self.names = manifest.path.tolist()
        self.root = root
        self.size = size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Tensor:
        photo = read_photo(self.root / self.names[i], self.names[i])
        photo = shrink(photo, self.size) if self.size else photo
        return torch.from_numpy(np.array(photo)).permute(2, 0, 1)


def build_cache(manifest: pd.DataFrame, root: Path, folder: Path, size: int) -> PhotoCache:
    """Decode all photos of a manifest into a cache, or open it if it is there; an interrupted one is
    finished.

    Args:
        manifest: rows with `path`.
        root: what the paths are relative to.
        folder: of the cache.
        size: the photos' shorter side is scaled down to so many pixels; smaller photos stay as they are.

    Raises:
        ValueError: photos cannot be read; all are listed in `unreadable.csv` of the folder.
        OSError: the disk has too little room; gives the figure.
    """
    files = [root / path for path in manifest.path]
    facts = contents.look(dict(zip(manifest.path, files, strict=True)), folder / MEMO)
    listing = [[path, facts[path][2]] for path in manifest.path]
    code = [inspect.getsource(module) for module in (reading, deep_photos)]
    fingerprint = hashlib.sha256(json.dumps([size, listing, code]).encode()).hexdigest()
    if (folder / "fingerprint.txt").exists() and _text(folder / "fingerprint.txt") == fingerprint:
        try:
            photos = open_cache(folder)
            contents.keep(facts, folder / MEMO)
            return photos
        except ValueError:
            pass  # damaged since: made again
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the photo cache has no place: {explain(error)}") from None
    needed = len(files) * 3 * size * size * 3 // 2  # with aspect ratios up to 3 : 2
    free, begun = shutil.disk_usage(folder).free, folder / "begun.bin"
    if needed > free + (
        begun.stat().st_size if begun.exists() else 0
    ):  # what is begun need not be written again
        raise OSError(
            f"the photo cache needs about {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB: make room"
        )

    (folder / "fingerprint.txt").unlink(missing_ok=True)
    try:
        with hold(folder / ".lock"):
            pixels, shapes = _decode(files, manifest.path.tolist(), folder, size, fingerprint)
            rename(pixels, folder / "pixels.bin")
            write_atomically(folder / "shapes.npy", lambda partial: np.save(partial, shapes))
            content = sha256(folder / "pixels.bin")
            write_atomically(
                folder / "content.txt", lambda partial: partial.write_text(content, encoding="utf-8")
            )
            write_atomically(
                folder / "fingerprint.txt", lambda partial: partial.write_text(fingerprint, encoding="utf-8")
            )
            contents.keep(facts, folder / MEMO)
            (folder / "begun.json").unlink()
    except OSError as error:
        free = shutil.disk_usage(folder).free
        raise OSError(
            f"the photo cache, about {needed / 1e9:.1f} GB, could not be written to {folder}, which has "
            f"{free / 1e9:.1f} GB free: {explain(error)}"
        ) from None
    return open_cache(folder)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _decode(
    files: list[Path], names: list[str], folder: Path, size: int, fingerprint: str
) -> tuple[Path, np.ndarray]:
    """Decode photos into one file, going on after those that an interrupted run has decoded.

    Returns:
        The file of their pixels and (N, 2) height and width.
    """

    def decode(file: Path) -> np.ndarray | str:
        try:
            return np.asarray(shrink(read_photo(file), size))
        except ValueError as error:
            return str(error)

    pixels, begun, shapes = folder / "begun.bin", folder / "begun.json", []
    try:
        record = json.loads(_text(begun))
        written = 3 * sum(height * width for height, width in record["shapes"])
        if record["fingerprint"] == fingerprint and pixels.stat().st_size >= written:
            shapes = record["shapes"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # nothing is begun, or its record is damaged
    unreadable: list[Fault] = []
    with pixels.open("ab") as out, ThreadPoolExecutor(READERS) as pool:
        out.truncate(3 * sum(height * width for height, width in shapes))
        for start in tqdm(range(len(shapes), len(files), DECODED), desc="decode photos", unit="batch"):
            for i, photo in enumerate(pool.map(decode, files[start : start + DECODED]), start):
                if isinstance(photo, str):
                    unreadable.append(Fault(str(names[i]), *UNREADABLE, photo))
                elif not unreadable:  # else the rest is read only to name all that fail
                    shapes.append(photo.shape[:2])
                    out.write(photo.tobytes())
            out.flush()
            flush(out.fileno())
            record = json.dumps({"fingerprint": fingerprint, "shapes": shapes})
            write_atomically(
                begun, lambda partial, record=record: partial.write_text(record, encoding="utf-8")
            )
    refuse(unreadable, folder / "unreadable.csv")
    return pixels, np.array(shapes, dtype=np.int64)


def open_cache(folder: Path) -> PhotoCache:
    """Open a photo cache.

    Raises:
        FileNotFoundError: there is none, or it is not finished.
        ValueError: it is damaged.
    """
    if not (folder / "fingerprint.txt").exists():
        raise FileNotFoundError(f"there is no photo cache in {folder}: run notebook 01_prepare_data")
    try:
        shapes = np.array(read_array(folder / "shapes.npy"))
        pixels = np.memmap(folder / "pixels.bin", np.uint8, mode="r")
        if shapes.ndim != 2 or len(pixels) != 3 * shapes.prod(axis=1).sum():
            raise ValueError(f"it holds {len(pixels)} bytes for shapes {shapes.shape}")
        changed = (folder / "pixels.bin").stat().st_mtime_ns > (folder / "fingerprint.txt").stat().st_mtime_ns
        if changed and sha256(folder / "pixels.bin") != _text(folder / "content.txt"):
            raise ValueError("its bytes are not those that were recorded")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the photo cache in {folder} is damaged ({error}): run notebook 01_prepare_data"
        ) from None
    return PhotoCache(pixels, shapes)
