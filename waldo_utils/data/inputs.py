"""What a study reads that it did not write: a digest of the raw photos, so that a change of them is
noticed."""

import hashlib
import unicodedata
from pathlib import Path

from waldo_utils.data import folders, manifests, places, real_photos
from waldo_utils.disk import contents
from waldo_utils.study import DataStage

MANIFESTS = {
    "sop": manifests.sop_manifest,
    "products10k": manifests.products10k_manifest,
    "grocery": manifests.grocery_manifest,
    "sop85": lambda root: real_photos.listed("sop85"),
    "ukbench250": lambda root: real_photos.listed("ukbench250"),
}
LISTS = {
    "sop": ("Ebay_train.txt", "Ebay_test.txt", "settings.json"),
    "products10k": (
        "train.csv",
        "test_kaggletest.csv",
        "train/train.csv",
        "test/test_kaggletest.csv",
        "categories.csv",
        "settings.json",
    ),
    "grocery": ("classes.csv", "train.txt", "val.txt", "test.txt"),
    "sop85": (),
    "ukbench250": (),
}
MEMO = "inputs.json"  # sizes, times and hashes at the last look


def digest(settings: DataStage, folder: Path) -> str:
    """Return a digest of the lists of the raw photos and of the photos that they name, by their bytes.

    Neither the place nor times count, nor files that no list names: a copy is the same input. Bytes are read
    where size or time are not as at the last look. Nothing is downloaded or unpacked.

    Args:
        settings: the data stage.
        folder: where rendered photos are kept, and the memo of the last look.
    """
    files: dict[str, Path] = {}
    for name, rendered in _sets(settings):
        place = folder / rendered if rendered else places.locate(name)
        if place is None or not place.exists():
            files[f"{name}: absent"] = folder / "absent"
        elif place.is_file():
            files[f"{name}: {place.name}"] = place
        else:
            files |= {f"{name}: {path}": place / path for path in _named(name, place)}
    facts = contents.look(files, folder / MEMO)
    if folder.is_dir():
        contents.keep(facts, folder / MEMO)
    lines = [f"{unicodedata.normalize('NFC', name)} {found[2]}" for name, found in facts.items()]
    return hashlib.sha256("\0".join(lines).encode(errors="surrogateescape")).hexdigest()


def _sets(settings: DataStage) -> list[tuple[str, str | None]]:
    """Return the sets that a study reads: the form, and the folder of what it renders in that form."""
    main: dict[str, list[tuple[str, str | None]]] = {
        "rendered": [("sop", "rendered_sop")],
        "photos": [("sop", "sets/rendered"), ("sop85", None), ("ukbench250", None), ("grocery", None)],
    }
    transfer = {"rendered": [("products10k", "rendered_products10k")], "grocery": [("grocery", None)]}
    found = main.get(settings.source, [("sop", None)])
    return [*found, *transfer.get(settings.transfer, [("products10k", None)])]


def _named(name: str, root: Path) -> list[str]:
    """Return the list files that a data set has, and the photos that they name; lists that cannot be read
    name none."""
    lists = [path for path in LISTS[name] if (root / path).is_file()]
    try:
        return lists + folders.on_disk(root, MANIFESTS[name](root).path)
    except (ValueError, OSError):
        return lists  # the notebook says what is wrong with them
