"""A notebook's tables and figures wait in the data folder until it is done: results/ holds nothing
unfinished."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from waldo_utils.data.folders import SYSTEM, SYSTEM_FILES
from waldo_utils.disk.files import write_atomically
from waldo_utils.run import resources

WRITTEN = ("tables", "figures")  # what of a profile's results notebooks write
# Time of the copies, by which they are told from what a notebook writes, or keeps and touches: the beginning
# of 2000, which every file system can note.
COPIED = 946_684_800


def begin(folder: Path, results: Path) -> Path:
    """Make a new folder that stands for a profile's results while a notebook runs, and return it.

    It begins as a copy of what notebooks read there; what a run that failed or was killed left in it goes.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for path in (*files(results, WRITTEN), *results.glob(resources.FILE)):
        copy = folder / path.relative_to(results)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        os.utime(copy, (COPIED, COPIED))
    return folder


def finish(folder: Path, results: Path) -> list[str]:
    """Bring what a notebook wrote to a profile's results, each file whole, and remove the folder.

    Returns:
        The files, relative to both folders.
    """
    written = [path for path in files(folder, WRITTEN) if path.stat().st_mtime != COPIED]
    names = [path.relative_to(folder).as_posix() for path in written]
    for path, name in zip(written, names, strict=True):
        write_atomically(results / name, partial(shutil.copyfile, path))
    shutil.rmtree(folder)
    return names


def files(folder: Path, tops: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below some sub-folders in order, but for half-written ones and those that systems and
    other programs leave: hidden ones, thumbnails, LibreOffice's locks."""
    for top in tops:
        for path in sorted((folder / top).rglob("*")):
            names = path.relative_to(folder).parts
            foreign = any(name.startswith(".") or name.lower() in (*SYSTEM, *SYSTEM_FILES) for name in names)
            if path.is_file() and not foreign and ".partial" not in str(path.relative_to(folder)):
                yield path
