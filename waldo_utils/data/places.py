"""Where raw data lie: found by their marks, unpacked from archives, or fetched."""

import errno
import http.client
import os
import re
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from waldo_utils.data.folders import on_disk
from waldo_utils.disk.faults import explain, shorten
from waldo_utils.disk.homes import WORK as ROOT
from waldo_utils.disk.paths import given

WHOLE = r"[0-9]{1,18}"  # a whole number as list files and servers write it
MOST_UNPACKED = 100  # times the size of its archive: photos hardly shrink, a bomb does a thousandfold
UNPACKED = (
    zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA,
    getattr(zipfile, "ZIP_ZSTANDARD", 0),
)  # fmt: skip
ARCHIVES = {  # sets that are fetched where they are nowhere: public repositories, the lists' commits
    "grocery": "https://codeload.github.com/marcusklasson/GroceryStoreDataset/zip/refs/heads/master",
    "sop85": (
        "https://codeload.github.com/arpitaj113/Product_Matching_Framework_Demo/zip/"
        "b32047acda37092e92a2e7ee17807738ff3493c0"
    ),
    "ukbench250": (
        "https://codeload.github.com/dmiruke/Python-Pyimagesearch-IP/zip/"
        "e590bc7959cd062f9fe670f4249373f175c321b9"
    ),
}
HOW_TO_GET = {
    "sop": (
        "download Stanford_Online_Products.zip (https://cvgl.stanford.edu/projects/lifted_struct/; also"
        " linked from the repository rksltnl/Deep-Metric-Learning-CVPR16) and set WALDO_DATA to it, its"
        " folder or a folder above"
    ),
    "products10k": (
        "download it (https://products-10k.github.io/), unpack it to a folder Products-10k with train.csv,"
        " test_kaggletest.csv, train/ and test/, and put that into the folder that WALDO_DATA names, or"
        " beside it"
    ),
    "grocery": "clone the repository marcusklasson/GroceryStoreDataset and set WALDO_DATA to it",
    "sop85": (
        "clone the repository arpitaj113/Product_Matching_Framework_Demo at commit b32047ac and set"
        " WALDO_DATA to the folder above its folder dataset, or put that into a folder sop85"
    ),
    "ukbench250": (
        "clone the repository dmiruke/Python-Pyimagesearch-IP at commit e590bc79 and set WALDO_DATA to the "
        "folder above its folder ukbench_sample, or put that into a folder ukbench250"
    ),
}
MARKS = {
    "sop": ("Ebay_train.txt", ("", "Stanford_Online_Products")),
    "products10k": ("train.csv", ("", "Products-10k", "products10k")),
    "grocery": ("classes.csv", ("", "dataset", "grocery_store", "GroceryStoreDataset/dataset")),
    # The last folder is the one in the public repository.
    "sop85": ("sofa_final", ("sop85", "photos/sop85", "dataset")),
    "ukbench250": ("ukbench00000.jpg", ("ukbench250", "photos/ukbench250", "ukbench_sample")),
}


def find_data(name: str) -> Path:
    """Return the folder of a real data set, a name of `MARKS`.

    Looks at WALDO_DATA (see `find_in`), beside it for a folder or zip file of the set's own name, and under
    data/downloads. Those of `ARCHIVES` are also looked for beside the project, and downloaded if they are
    nowhere.

    Raises:
        FileNotFoundError: it is nowhere; says how to get it.
    """
    for place, found in _found(name):
        if found:
            return _opened(found, name)
        if place == _downloads(name) and name in ARCHIVES:
            return _inside(fetch(ARCHIVES[name], place, HOW_TO_GET[name]), *MARKS[name])
    looked = ", ".join(str(place) for place, _ in _places(name))
    raise FileNotFoundError(f"no {name} data in {looked}: {HOW_TO_GET[name]}")


def locate(name: str) -> Path | None:
    """Return the folder or the zip file that `find_data` would take, or None where there is none yet; nothing
    is unpacked or fetched."""
    try:
        return next((found for _, found in _found(name) if found), None)
    except FileNotFoundError:
        return None


def find_in(name: str, place: Path) -> Path:
    """Return the folder of a data set in one place: its folder, one above it, or a zip file.

    A zip file is unpacked beside itself, once.

    Raises:
        FileNotFoundError: it is not there; says how to get it.
        ValueError: the zip file is damaged.
    """
    found = _locate(place, *MARKS[name])
    if found is None:
        raise FileNotFoundError(f"no {name} data in {place}: {HOW_TO_GET[name]}")
    return _opened(found, name)


def _downloads(name: str) -> Path:
    return ROOT / "data" / "downloads" / name


def _places(name: str) -> list[tuple[Path, tuple[str, ...]]]:
    """Return where a data set is looked for, and in which folders there.

    Raises:
        FileNotFoundError: WALDO_DATA does not exist.
    """
    below = MARKS[name][1]
    places = []
    if os.environ.get("WALDO_DATA"):
        place = given(os.environ["WALDO_DATA"])
        if not place.exists():
            raise FileNotFoundError(f"WALDO_DATA is {place}, which does not exist: {HOW_TO_GET[name]}")
        beside = below[1:] if below[0] == "" else below
        places = [(place, below), (place.resolve().parent, beside)]
    if name in ARCHIVES:
        shared = ROOT.parent / "shared"
        places.append((shared / "grocery_store" if name == "grocery" else shared, below))
    return [*places, (_downloads(name), below)]


def _found(name: str) -> Iterator[tuple[Path, Path | None]]:
    """Yield each place where a data set is looked for, and its folder or archive there."""
    for place, folders in _places(name):
        found = _locate(place, MARKS[name][0], folders)
        fetched = _downloads(name) / "archive.zip"
        yield place, fetched if found is None and place == _downloads(name) and fetched.exists() else found


def _locate(place: Path, mark: str, folders: tuple[str, ...]) -> Path | None:
    """Return the folder below a place that holds the mark, or else its zip file. Where the place itself may
    be the folder ("" is one of the folders), one folder deeper too.

    Names are taken in any capitals, and archives as browsers number them: "Name (1).zip".
    """
    if place.is_file():
        others = (below for other, below in MARKS.values() if other != mark)
        another = any(_archive_of(below).fullmatch(place.name) for below in others)
        return place if place.suffix.lower() == ".zip" and not another else None
    if not place.is_dir():
        return None
    inner = [child for child in sorted(place.iterdir()) if child.is_dir()] if "" in folders else []
    for above in (place, *inner):
        named = [folder for folder in folders if folder or above == place]
        for folder in on_disk(above, named):
            if (above / folder / mark).exists():
                return above / folder
    archive = _archive_of(folders)
    archives = [
        child for child in sorted(place.iterdir()) if archive.fullmatch(child.name) and child.is_file()
    ]
    return archives[0] if archives else None


def _archive_of(folders: tuple[str, ...]) -> re.Pattern:
    """Return what the names of a set's archives look like, by the names of its folders."""
    names = "|".join(re.escape(folder.split("/")[0]) for folder in folders if folder)
    return re.compile(rf"({names})([ ._-]*(\(\d+\)|copy|master|main|\d+))*\.zip", re.IGNORECASE)


def _opened(found: Path, name: str) -> Path:
    """Return the folder of a data set that `_locate` found, unpacked if it is an archive."""
    return _inside(unpack(found), *MARKS[name]) if found.is_file() else found


def _inside(folder: Path, mark: str, below: tuple[str, ...]) -> Path:
    for candidate in (folder, *(p for p in sorted(folder.iterdir()) if p.is_dir())):
        for part in on_disk(candidate, below):
            if (candidate / part / mark).exists():
                return candidate / part
    raise FileNotFoundError(
        f"{folder} holds no {mark}: remove it and the archive that it was unpacked from, they are not the"
        " data set"
    )


def unpack(archive: Path) -> Path:
    """Unzip an archive into a folder of its name beside it, once and whole, and return the folder.

    Raises:
        ValueError: the archive is damaged, encrypted or a bomb, or has an entry that leads out of the folder,
            is a link or comes twice.
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
            for entry in tqdm(opened.infolist(), desc=f"unpack {archive.name}", unit="file"):
                entry.filename = entry.filename.replace("\\", "/")  # as some programs of Windows write it
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
        if entry.compress_type not in UNPACKED and entry.compress_type in zipfile.compressor_names:
            method = zipfile.compressor_names[entry.compress_type]
            raise ValueError(
                f"{archive} is packed with {method}, which is not read here ({name}): unpack it yourself to "
                f"{archive.with_suffix('')} (7-Zip can do it), or pack it with Deflate"
            )
    claimed, packed = sum(entry.file_size for entry in entries), archive.stat().st_size
    if claimed > max(MOST_UNPACKED * packed, 1e9):
        raise ValueError(
            f"{archive} would grow from {packed / 1e9:.3f} to {claimed / 1e9:.1f} GB: do not trust it, fetch"
            " it again"
        )
    free = shutil.disk_usage(archive.parent).free
    if claimed > free:
        raise OSError(
            f"{archive} unpacks to {claimed / 1e9:.1f} GB, {archive.parent} has {free / 1e9:.1f} GB: make"
            " room"
        )


def fetch(address: str, folder: Path, by_hand: str) -> Path:
    """Download a zip archive with a bar, going on where an earlier try stopped, check it and unpack it.

    Args:
        address: of the archive.
        folder: to download to.
        by_hand: what to do where it cannot be downloaded.

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
        _download(address, partial, by_hand)
        if not zipfile.is_zipfile(partial):
            partial.unlink()
            raise ValueError(f"{address} did not give a zip archive: {by_hand}")
        partial.replace(archive)
    try:
        return unpack(archive)
    except ValueError as error:
        archive.unlink()
        raise ValueError(f"{error}; it is removed here, run again to download it") from None


def _download(address: str, partial: Path, by_hand: str) -> None:
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
        raise ConnectionError(f"cannot download {address} ({reason}): {by_hand}") from None
    except (http.client.HTTPException, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise OSError(
                f"the download to {partial} stopped: {explain(error)}; run again to go on"
            ) from None
        raise ConnectionError(f"cannot download {address} ({error}): {by_hand}") from None
    if total and partial.stat().st_size != total:
        raise ConnectionError(
            f"the download of {address} stopped at {partial.stat().st_size} of {total} bytes: run again to"
            " go on"
        )
