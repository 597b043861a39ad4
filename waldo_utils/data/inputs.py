"""What a study reads that it did not write: a digest of the raw photos, so that a change of them is
noticed."""

import hashlib
import os
from pathlib import Path

from waldo_utils.study import ROOT, DataStage

# As in `manifests`, which this module does not import: the command line would wait for torch.
MARKS = {
    "sop": ("Ebay_train.txt", ("", "Stanford_Online_Products")),
    "products10k": ("train.csv", ("", "Products-10k", "products10k")),
    "grocery": ("classes.csv", ("", "dataset", "grocery_store", "GroceryStoreDataset/dataset")),
}


def digest(settings: DataStage, folder: Path) -> str:
    """Return a digest of the names, sizes and times of change of all raw files, without opening any of them.

    The place does not count: the same files moved elsewhere are the same input. Nothing is downloaded or
    unpacked.

    Args:
        settings: the data stage.
        folder: where rendered photos are kept.
    """
    source = "sop" if settings.source == "sop_form" else settings.source
    parts = []
    for name, rendered in ((source, "rendered_sop"), (settings.transfer, "rendered_products10k")):
        parts += ["of", name, *_listing(folder / rendered if name == "rendered" else find(name))]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def find(name: str) -> Path | None:
    """Return the folder or the zip file that `manifests.find_data` would take, or None where there is none
    yet."""
    mark, below = MARKS[name]
    downloads = ROOT / "data" / "downloads" / name
    places = [(downloads, below), (ROOT.parent / "shared" / "grocery_store", below)]
    if os.environ.get("WALDO_DATA"):
        given = Path(os.environ["WALDO_DATA"])
        places = [(given, below), (given.resolve().parent, below[1:]), *places]
    for place, folders in places:
        if place.is_file():
            return place
        for candidate in (place / part for part in folders):
            if (candidate / mark).exists():
                return candidate
        for archive in (place / f"{part}.zip" for part in (*folders, "archive") if part):
            if archive.exists():
                return archive
    return None


def _listing(place: Path | None) -> list[str]:
    """Return name, size and time of change (nanoseconds) of every file of a folder, or of a single file."""
    if place is None:
        return ["absent"]
    if place.is_file():
        facts = place.stat()
        return [place.name, str(facts.st_size), str(facts.st_mtime_ns)]
    lines = []
    waiting = [str(place)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue  # the notebook says what is wrong with it
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif ".partial" not in entry.name:
                facts = entry.stat(follow_symlinks=False)
                name = os.path.relpath(entry.path, place)
                lines.append(f"{name} {facts.st_size} {facts.st_mtime_ns}")
    return sorted(lines)
