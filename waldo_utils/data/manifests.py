"""One manifest form for all data sets: `path`, `label` (product), `category`, `split`, one row per photo.

Products are numbered from 0. The splits "train", "validation" and "test" share no product. Every manifest passes
`check_manifest` before anything else reads it.
"""

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm import tqdm

from waldo_utils.disk.faults import Fault, explain, refuse, shorten
from waldo_utils.data.images import UNREADABLE, read_photo
from waldo_utils.study import ROOT

WHOLE = r"[0-9]{1,18}"  # a whole number as list files write it
MOST_UNPACKED = 100  # times the size of its archive: photos hardly shrink, a bomb does a thousandfold
SPLITS = ("train", "validation", "test")
SOP_COUNTS = {
    "train": (59_551, 11_318),
    "test": (60_502, 11_316),
}  # photos, products (Oh Song et al., CVPR 2016)
GROCERY_ARCHIVE = "https://codeload.github.com/marcusklasson/GroceryStoreDataset/zip/refs/heads/master"
HOW_TO_GET = {
    "sop": "download Stanford_Online_Products.zip (https://cvgl.stanford.edu/projects/lifted_struct/; also linked from "
    "the repository rksltnl/Deep-Metric-Learning-CVPR16) and set WALDO_DATA to it, its folder or a folder above",
    "products10k": "download it (https://products-10k.github.io/), unpack it to a folder Products-10k with train.csv, "
    "test_kaggletest.csv, train/ and test/, and put that into the folder that WALDO_DATA names, or beside it",
    "grocery": "clone the repository marcusklasson/GroceryStoreDataset and set WALDO_DATA to it",
}
MARKS = {
    "sop": ("Ebay_train.txt", ("", "Stanford_Online_Products")),
    "products10k": ("train.csv", ("", "Products-10k", "products10k")),
    "grocery": ("classes.csv", ("", "dataset", "grocery_store", "GroceryStoreDataset/dataset")),
}


# ---------------------------------------------------------------- one function per data set


def sop_manifest(root: Path) -> pd.DataFrame:
    """List every photo of Stanford Online Products (Oh Song et al., CVPR 2016).

    Args:
        root: the unzipped `Stanford_Online_Products` folder, or one of its form.

    Returns:
        One row per photo in the authors' order, splits "train" and "test". For rendered products also `family`:
        look-alikes have the same number.

    Raises:
        FileNotFoundError: `root` lacks one of the authors' two split files.
        ValueError: a line is malformed; names file and line.
    """
    parts = []
    for split in ("train", "test"):
        listing = _read_listing(
            root / f"Ebay_{split}.txt", ["image_id", "class_id", "super_class_id", "path"], " "
        )
        if (listing.class_id < 1).any():
            row = int((listing.class_id < 1).argmax())
            raise ValueError(
                f"{root / f'Ebay_{split}.txt'} line {row + 2}: class_id is 0, expected 1 or more"
            )
        folder = listing.path.str.split("/").str[0]
        category = folder.str.removesuffix("_final").str.replace("_", " ")
        parts.append(
            pd.DataFrame(
                {"path": listing.path, "label": listing.class_id - 1, "category": category, "split": split}
            )
        )
    manifest = pd.concat(parts, ignore_index=True)
    settings = root / "settings.json"
    if settings.exists():
        try:
            family_size = json.loads(settings.read_text())["family_size"]
        except (ValueError, KeyError, TypeError):
            family_size = None
        if not isinstance(family_size, int) or family_size < 1:
            raise ValueError(
                f"{settings} gives no family_size of 1 or more: remove it, or render the set again"
            )
        manifest["family"] = manifest.label // family_size
    return manifest


def products10k_manifest(root: Path) -> pd.DataFrame:
    """List every photo of Products-10k (Bai et al., 2020), or of a folder of its form.

    The same products are in "train" and in "test": this set is for transfer, nothing is trained on it. The category
    is the product's group, by name where a file `categories.csv` (group, name) gives one.

    Raises:
        FileNotFoundError: a list file is absent.
        ValueError: a line is malformed, or a test product is in no group.
    """
    train = _read_listing(_beside(root, "train.csv"), ["name", "class", "group"], ",")
    test = _read_listing(_beside(root, "test_kaggletest.csv"), ["name", "class", "Usage"], ",")
    group = train.drop_duplicates("class").set_index("class").group
    unknown = test[~test["class"].isin(group.index)]
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} test photos are of products that train.csv lacks, first {unknown.name.iloc[0]}: restore train.csv"
        )
    names = {}
    if (root / "categories.csv").exists():
        named = _read_listing(root / "categories.csv", ["group", "name"], ",")
        names = dict(zip(named.group, named.name, strict=True))
    parts = []
    for split, listing in (("train", train), ("test", test)):
        category = listing["class"].map(group).map(lambda number: str(names.get(number, number)))
        parts.append(
            pd.DataFrame(
                {
                    "path": f"{split}/" + listing.name,
                    "label": listing["class"],
                    "category": category,
                    "split": split,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def grocery_manifest(root: Path) -> pd.DataFrame:
    """List every photo of the Grocery Store data set (Klasson et al., WACV 2019), split by product.

    The lists that the folder holds (train.txt, val.txt, test.txt) are taken together. Products with an odd fine label
    are test, those with an even one train; of these every second is validation, so that it holds look-alikes too. Categories
    are the coarse classes.

    Raises:
        FileNotFoundError: `root` holds none of the lists, or no classes.csv.
        ValueError: a line is malformed; names file and line.
    """
    lists = [root / f"{name}.txt" for name in ("train", "val", "test") if (root / f"{name}.txt").is_file()]
    if not lists:
        raise FileNotFoundError(f"{root} holds none of train.txt, val.txt, test.txt: {HOW_TO_GET['grocery']}")
    classes = _read_listing(
        root / "classes.csv",
        ["Class Name (str)", "Class ID (int)", "Coarse Class Name (str)", "Coarse Class ID (int)"],
        ",",
    ).drop_duplicates("Coarse Class ID (int)")
    names = classes.set_index("Coarse Class ID (int)")["Coarse Class Name (str)"]
    rows = []
    for path in lists:
        for number, line in enumerate(_read_lines(path), start=1):
            fields = [field.strip() for field in line.rsplit(",", 2)]
            whole = len(fields) == 3 and fields[0] and all(re.fullmatch(WHOLE, f) for f in fields[1:])
            if not whole or int(fields[2]) not in names.index:
                raise ValueError(
                    f"{path} line {number} is {shorten(line)!r}: expected 'path, fine label, coarse label', "
                    f"the coarse one from classes.csv"
                )
            rows.append((fields[0], int(fields[1]), names[int(fields[2])].replace("-", " ").lower()))
    manifest = pd.DataFrame(rows, columns=["path", "label", "category"])
    manifest["split"] = np.select(
        [manifest.label % 2 == 1, manifest.label % 4 == 2], ["test", "validation"], "train"
    )
    return manifest


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a list file: UTF-8, perhaps with a byte order mark, line ends of any system.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: unpack the data set again, or correct WALDO_DATA")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no UTF-8 text (byte {error.start} is {error.object[error.start]:#04x}): "
            "unpack the data set again, or save it as UTF-8"
        ) from None
    return text.rstrip("\n").split("\n") if text.strip() else []


def _read_listing(path: Path, columns: list[str], separator: str) -> pd.DataFrame:
    """Read a list file line by line, so that a malformed line can be named."""
    lines = _read_lines(path)
    header = [name.strip() for name in lines[0].split(separator)] if lines else []
    if header[: len(columns)] != columns:
        raise ValueError(
            f"{path} starts with {shorten(lines[0]) if lines else ''!r}: expected the columns {', '.join(columns)}"
        )
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        fields = [field.strip() for field in line.split(separator)]
        if len(fields) != len(header) or not all(fields[: len(columns)]):
            raise ValueError(
                f"{path} line {number} is {shorten(line)!r}: expected {len(header)} fields ({', '.join(header)})"
            )
        rows.append(fields[: len(columns)])
    table = pd.DataFrame(rows, columns=columns, dtype=str)
    for column in columns:
        if column in ("image_id", "class_id", "super_class_id", "class", "group") or column.endswith("(int)"):
            wrong = ~table[column].str.fullmatch(WHOLE)
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(
                    f"{path} line {row + 2}: {column} is {shorten(table[column][row])!r}, expected a whole number"
                )
            table[column] = table[column].astype(int)
    return table


def _beside(root: Path, name: str) -> Path:
    """Return where a list of Products-10k lies: in the folder, or beside the photos."""
    inside = root / ("train" if name == "train.csv" else "test") / name
    return inside if inside.exists() and not (root / name).exists() else root / name


# ---------------------------------------------------------------- checks and splits


def check_manifest(
    manifest: pd.DataFrame,
    root: Path,
    disjoint: bool = True,
    read: bool = False,
    listing: Path | None = None,
) -> pd.DataFrame:
    """Return the manifest if it keeps all rules.

    Args:
        manifest: see the module.
        root: what its paths are relative to.
        disjoint: whether splits must not share products.
        read: also decode every photo, to the last one, however many cannot be read.
        listing: a `.csv` for the list of all photos that break a rule; it is removed where none does.

    Raises:
        ValueError: names the rule and the first files that break it, counts them, and says where all are listed.
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
        with ThreadPoolExecutor() as pool:
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
                f"the {split} list has {found[0]} photos of {found[1]} products, published are {expected[0]} of "
                f"{expected[1]}: unpack the data set again, or rehearse on it with the profile rehearsal"
            )
    return manifest


def hold_out(manifest: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Return the manifest with a share of the train products, drawn within each category, as validation.

    Look-alikes stay together: where the manifest knows families, whole families move. The total is the share of all
    products, rounded: with 0.2 the 2,264 of Stanford Online Products' 11,318 that UnED holds out (Ypsilantis et al.,
    ICCV 2023); 9,054 stay. Which ones is our own draw.

    Args:
        manifest: with splits "train" and "test".
        fraction: share of the train products (or families); of each category at least one moves and one stays.
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
    """Return how many of each group make up `fraction` of all, by largest remainder; of each at least one, not all."""
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


# ---------------------------------------------------------------- where data sets are


def find_data(name: str) -> Path:
    """Return the folder of a real data set: "sop", "products10k" or "grocery".

    Looks at WALDO_DATA (see `find_in`), beside it for a folder or zip file of the set's own name, and under
    data/downloads. Grocery Store is also looked for beside the project, and downloaded if it is nowhere.

    Raises:
        FileNotFoundError: it is nowhere; says how to get it.
    """
    mark, below = MARKS[name]
    downloads = ROOT / "data" / "downloads" / name
    places = [(downloads, below)]
    if os.environ.get("WALDO_DATA"):
        given = Path(os.environ["WALDO_DATA"])
        if not given.exists():
            raise FileNotFoundError(f"WALDO_DATA is {given}, which does not exist: {HOW_TO_GET[name]}")
        places = [(given, below), (given.resolve().parent, below[1:]), *places]
    if name == "grocery":
        places.append((ROOT.parent / "shared" / "grocery_store", below))
    for place, folders in places:
        if found := _search(place, mark, folders):
            return found
    if name == "grocery":
        return _inside(fetch(GROCERY_ARCHIVE, downloads), mark, below)
    raise FileNotFoundError(
        f"no {name} data in {', '.join(str(place) for place, _ in places)}: {HOW_TO_GET[name]}"
    )


def find_in(name: str, place: Path) -> Path:
    """Return the folder of a data set in one place: its folder, one above it, or a zip file.

    A zip file is unpacked beside itself, once.

    Raises:
        FileNotFoundError: it is not there; says how to get it.
        ValueError: the zip file is damaged.
    """
    found = _search(place, *MARKS[name])
    if found is None:
        raise FileNotFoundError(f"no {name} data in {place}: {HOW_TO_GET[name]}")
    return found


def _search(place: Path, mark: str, folders: tuple[str, ...]) -> Path | None:
    """Return the first of the folders below a place, or in a zip file of its name there, that holds the mark."""
    if place.is_file() and place.suffix == ".zip":
        return _search(unpack(place), mark, folders)
    for folder in folders:
        if (place / folder / mark).exists():
            return place / folder
    for archive in (place / f"{folder}.zip" for folder in folders if folder):
        if archive.is_file():
            return _inside(unpack(archive), mark, ("", *folders))
    return None


def _inside(folder: Path, mark: str, below: tuple[str, ...]) -> Path:
    for candidate in (folder, *(p for p in sorted(folder.iterdir()) if p.is_dir())):
        for part in below:
            if (candidate / part / mark).exists():
                return candidate / part
    raise FileNotFoundError(
        f"{folder} holds no {mark}: remove it and the archive that it was unpacked from, they are not the data set"
    )


def unpack(archive: Path) -> Path:
    """Unzip an archive into a folder of its name beside it, once and whole, and return the folder.

    Raises:
        ValueError: the archive is damaged, encrypted or a bomb, or has an entry that leads out of the folder, is a link
            or comes twice.
        OSError: the disk has too little room for it; gives the figure.
    """
    folder = archive.with_suffix("")
    if folder.is_dir():
        return folder
    if folder.exists():
        raise FileExistsError(f"{folder} is in the way of unpacking {archive}: rename or remove it")
    with _damage_told(archive), zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
    _check_entries(archive, entries)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        with _damage_told(archive), zipfile.ZipFile(archive) as opened:
            for entry in tqdm(entries, desc=f"unpack {archive.name}", unit="file"):
                if not entry.is_dir() and (partial / entry.filename).exists():
                    raise ValueError(
                        f"{archive} holds {shorten(entry.filename)!r} twice: do not trust it, fetch it again"
                    )
                opened.extract(entry, partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


@contextmanager
def _damage_told(archive: Path) -> Iterator[None]:
    """Turn what zipfile and its decoders raise over an archive into the errors of `unpack`."""
    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # a decoder's, or a place before the file's begin
            raise ValueError(f"{archive} is damaged ({error}): download it again") from None
        raise OSError(f"{archive} could not be unpacked: {explain(error)}") from None
    except Exception as error:  # BadZipFile, zlib.error, LZMAError, NotImplementedError, struct.error, ...
        if str(archive) in str(error):  # our own
            raise
        raise ValueError(f"{archive} is damaged ({error}): download it again") from None


def _check_entries(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive by its table of contents, before anything is unpacked; raises as `unpack` does."""
    for entry in entries:
        parts, name = PurePosixPath(entry.filename.replace("\\", "/")), shorten(entry.filename)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(
                f"{archive} has an entry outside its folder ({name}): do not trust it, fetch it again"
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"{archive} has a link in it ({name}): do not trust it, fetch it again")
        if entry.flag_bits & 1:
            raise ValueError(
                f"{archive} is encrypted ({name}): unpack it with its password beside the archive"
            )
    claimed, packed = sum(entry.file_size for entry in entries), archive.stat().st_size
    if claimed > max(MOST_UNPACKED * packed, 1e9):
        raise ValueError(
            f"{archive} would grow from {packed / 1e9:.3f} to {claimed / 1e9:.1f} GB: do not trust it, fetch it again"
        )
    free = shutil.disk_usage(archive.parent).free
    if claimed > free:
        raise OSError(
            f"{archive} unpacks to {claimed / 1e9:.1f} GB, {archive.parent} has {free / 1e9:.1f} GB: make room"
        )


def fetch(address: str, folder: Path) -> Path:
    """Download a zip archive with a bar, going on where an earlier try stopped, check it and unpack it.

    Returns:
        The folder it was unpacked to.

    Raises:
        ConnectionError: the network or the server does not answer; says what to do by hand.
        ValueError: what came is not a whole zip archive; it is removed, so that the next try starts anew.
        OSError: it cannot be written here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive, partial = folder / "archive.zip", folder / "archive.zip.part"
    if not archive.exists():
        _download(address, partial)
        if not zipfile.is_zipfile(partial):
            partial.unlink()
            raise ValueError(f"{address} did not give a zip archive: {HOW_TO_GET['grocery']}")
        partial.replace(archive)
    try:
        return unpack(archive)
    except ValueError as error:
        archive.unlink()
        raise ValueError(f"{error}; it is removed here, run again to download it") from None


def _download(address: str, partial: Path) -> None:
    """Write what an address gives to a file, after what the file holds already; raises as `fetch` does."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            start = have if answer.status == 206 else 0
            length = answer.headers.get("Content-Length") or ""
            total = int(length) + start if re.fullmatch(WHOLE, length) else None
            bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc="download")
            with bar, partial.open("ab" if start else "wb") as out:
                while chunk := answer.read(1 << 20):
                    out.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is no part of what the server has now
            partial.unlink(missing_ok=True)
            raise ConnectionError(
                f"{address} has changed since the last try: run again to start anew"
            ) from None
        reason = " ".join(str(error).split())
        raise ConnectionError(f"cannot download {address} ({reason}): {HOW_TO_GET['grocery']}") from None
    except (http.client.HTTPException, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise OSError(
                f"the download to {partial} stopped: {explain(error)}; run again to go on"
            ) from None
        raise ConnectionError(f"cannot download {address} ({error}): {HOW_TO_GET['grocery']}") from None
    if total and partial.stat().st_size != total:
        raise ConnectionError(
            f"the download of {address} stopped at {partial.stat().st_size} of {total} bytes: run again to go on"
        )
