"""The rules that every manifest keeps, counts that were published, and products held out for validation."""

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm import tqdm

from waldo_utils.data import folders
from waldo_utils.data.reading import READERS, UNREADABLE, read_photo
from waldo_utils.disk.faults import Fault, refuse

SPLITS = ("train", "validation", "test")
SOP_COUNTS = {
    "train": (59_551, 11_318),
    "test": (60_502, 11_316),
}  # photos, products (Oh Song et al., CVPR 2016)


def check_manifest(
    manifest: pd.DataFrame, root: Path, disjoint: bool = True, read: bool = False, listing: Path | None = None
) -> pd.DataFrame:
    """Return the manifest if it keeps all rules, with every path as the disk writes it.

    Args:
        manifest: see the module.
        root: what its paths are relative to.
        disjoint: whether splits must not share products.
        read: also decode every photo, to the last one, however many cannot be read.
        listing: a `.csv` for the list of all photos that break a rule; it is removed where none does.

    Raises:
        ValueError: names the rule and the first files that break it, counts them, and says where all are
            listed.
    """
    lacking = [column for column in ("path", "label", "category", "split") if column not in manifest]
    if lacking:
        raise ValueError(f"the manifest of {root} has no column {', '.join(lacking)}: add it")
    if manifest.empty:
        raise ValueError(f"the manifest of {root} lists no photo: check the list files")
    paths = pd.Series([str(path) for path in manifest.path], manifest.index, dtype=object)
    labels = pd.to_numeric(manifest.label, errors="coerce")
    _refuse(
        paths[~(labels >= 0) | (labels % 1 != 0)],
        "have no whole number from 0 as their product",
        "correct the list file",
        listing,
    )
    _refuse(
        paths[~manifest.split.isin(SPLITS)],
        f"are in no split of {', '.join(SPLITS)}",
        "correct the split",
        listing,
    )
    _refuse(paths[manifest.category.isna()], "have no category", "correct the list file", listing)

    found = pd.Series(folders.on_disk(root, paths), manifest.index, dtype=object)
    if (found != paths).any():
        manifest, paths = manifest.assign(path=found), found
    base = root.resolve()
    faults = [_file_fault(path, root, base) for path in paths]
    twice = paths.duplicated()
    faults = [
        fault or (Fault(path, "are listed twice", "correct the list file") if again else None)
        for path, fault, again in zip(paths, faults, twice, strict=True)
    ]
    if read:
        rest = [i for i, fault in enumerate(faults) if fault is None]
        files = [root / paths.iloc[i] for i in rest]
        with ThreadPoolExecutor(READERS) as pool:
            reasons = tqdm(pool.map(_unreadable, files), total=len(files), desc="read photos", unit="photo")
            for i, reason in zip(rest, reasons, strict=True):
                faults[i] = Fault(paths.iloc[i], *UNREADABLE, reason) if reason else None
    refuse([fault for fault in faults if fault], listing)

    first = manifest.drop_duplicates("label").set_index("label")
    if disjoint:
        _refuse(
            paths[manifest.split != manifest.label.map(first.split)],
            "show a product of another split",
            "correct the split",
            listing,
        )
    _refuse(
        paths[manifest.category != manifest.label.map(first.category)],
        "show a product of another category",
        "correct the list",
        listing,
    )
    groups = ["split", "label"] if disjoint else ["label"]
    _refuse(
        paths[manifest.groupby(groups).path.transform("size") < 2],
        "are the only photo of their product",
        "remove the product, or add a photo",
        listing,
    )
    return manifest


def _file_fault(path: str, root: Path, base: Path) -> Fault | None:
    """Return what is wrong with the place of a photo; `base` is the root without links."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        return Fault(path, "lie outside the data set's folder", "correct the list file")
    try:
        status = (root / path).stat()
        if not (root / path).resolve().is_relative_to(base):
            return Fault(
                path, "are links that lead out of the data set's folder", "replace them by the photos"
            )
    except (FileNotFoundError, NotADirectoryError):
        return Fault(path, "are missing", "unpack the data set again")
    except (OSError, ValueError) as error:  # a name too long, a link to itself; ValueError: a NUL byte
        reason = error.strerror if isinstance(error, OSError) else "a NUL byte in the name"
        return Fault(path, f"cannot be opened ({reason})", "correct the list file or the photos", reason)
    if not stat.S_ISREG(status.st_mode):
        return Fault(path, "are folders or devices", "replace them by the photos")
    if status.st_size == 0:
        return Fault(path, "are empty files", "restore them")
    return None


def _unreadable(path: Path) -> str:
    """Return why a photo cannot be read, "" where it can."""
    try:
        read_photo(path)
    except ValueError as error:
        return str(error)
    return ""


def _refuse(paths: pd.Series, kind: str, remedy: str, listing: Path | None) -> None:
    refuse([Fault(path, kind, remedy) for path in paths], listing)


def check_sop_counts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the manifest if it has the published numbers of photos and products.

    Raises:
        ValueError: gives expected and found.
    """
    for split, expected in SOP_COUNTS.items():
        part = manifest[manifest.split == split]
        found = (len(part), part.label.nunique())
        if found != expected:
            raise ValueError(
                f"the {split} list has {found[0]} photos of {found[1]} products, published are {expected[0]}"
                f" of {expected[1]}: unpack the data set again, or rehearse on it with the profile rehearsal"
            )
    return manifest


def hold_out(manifest: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Return the manifest with a share of the train products, drawn within each category, as validation.

    Look-alikes stay together: where the manifest knows families, whole families move. The total is the share
    of all
    products, rounded: with 0.2 the 2,264 of Stanford Online Products' 11,318 that UnED holds out (Ypsilantis
    et al., ICCV 2023); 9,054 stay. Which ones is our own draw.

    Args:
        manifest: with splits "train" and "test".
        fraction: share of the train products (or families); of each category at least one moves and one
            stays.
        seed: of the draw.

    Raises:
        ValueError: no category has two train products (or families), so that none can move.
    """
    unit = "family" if "family" in manifest else "label"
    train, rng, moved = manifest[manifest.split == "train"], np.random.default_rng(seed), []
    units = [np.unique(part[unit]) for _, part in train.groupby("category")]
    units = [category for category in units if len(category) > 1]
    if len(train) and not units:
        kind = "families" if unit == "family" else "products"
        raise ValueError(f"no category has two train {kind}, one to train on and one to hold out: add some")
    for category, count in zip(units, _shares([len(category) for category in units], fraction), strict=True):
        moved.extend(rng.permutation(category)[:count])
    held = (manifest.split == "train") & manifest[unit].isin(moved)
    return manifest.assign(split=np.where(held, "validation", manifest.split))


def _shares(sizes: list[int], fraction: float) -> list[int]:
    """Return how many of each group make up `fraction` of all, by largest remainder; of each at least one,
    not all."""
    exact = np.array(sizes, dtype=int) * fraction
    counts = np.clip(exact.astype(int), 1, np.array(sizes, dtype=int) - 1)
    for group in np.argsort(counts - exact, kind="stable")[: max(round(exact.sum()) - counts.sum(), 0)]:
        counts[group] = min(counts[group] + 1, sizes[group] - 1)
    return counts.tolist()


def duplicates(manifest: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Return photos that are byte for byte the same as an earlier one: columns `path` and `same_as`."""
    digests = [
        hashlib.sha1((root / path).read_bytes(), usedforsecurity=False).hexdigest() for path in manifest.path
    ]
    first = manifest.path.groupby(digests, sort=False).transform("first")
    same = first != manifest.path
    return pd.DataFrame({"path": manifest.path[same], "same_as": first[same]}).reset_index(drop=True)


def copy_groups(manifest: pd.DataFrame, twins: pd.DataFrame) -> np.ndarray:
    """Return (N,) numbers, equal for photos of equal bytes.

    Args:
        manifest: of N photos, whole or a part.
        twins: what `duplicates` found.
    """
    return pd.factorize(manifest.path.replace(dict(zip(twins.path, twins.same_as, strict=True))))[0]
