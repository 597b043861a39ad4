"""One manifest form for all data sets: `path`, `label` (product), `category`, `split`, one row per photo.

Products are numbered from 0. The splits "train", "validation" and "test" share no product. Every manifest
passes `check_manifest` before anything else reads it.
"""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from waldo_utils.data.places import HOW_TO_GET, WHOLE
from waldo_utils.disk.faults import shorten

NUMBERS = ("image_id", "class_id", "super_class_id", "class", "group", "label", "family", "place")
"""Columns of list files that hold whole numbers, beside those that say "(int)"."""
FROM_ONE = ("sop", "sop_form", "rendered")
"""Sources whose lists count products from 1; our labels do from 0."""


def sop_manifest(root: Path) -> pd.DataFrame:
    """List every photo of Stanford Online Products (Oh Song et al., CVPR 2016).

    Args:
        root: the unzipped `Stanford_Online_Products` folder, or one of its form.

    Returns:
        One row per photo in the authors' order, splits "train" and "test". For rendered products also
        `family`: look-alikes have the same number.

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
            family_size = json.loads(settings.read_text(encoding="utf-8"))["family_size"]
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

    The same products are in "train" and in "test": this set is for transfer, nothing is trained on it. The
    category is the product's group, by name where a file `categories.csv` (group, name) gives one.

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
            f"{len(unknown)} test photos are of products that train.csv lacks, first "
            f"{unknown.name.iloc[0]}: restore train.csv"
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


def places_manifest(root: Path) -> pd.DataFrame:
    """List every photo of products that share their places, as `miniature.datasets.render_places` writes it.

    Returns:
        One row per photo, split "test": `path`, `label`, `category`, `split`, and `family`, `place` (a
        number) and `mask` (a path, as that of the photo).

    Raises:
        FileNotFoundError: the list file is absent.
        ValueError: a line is malformed.
    """
    columns = ["path", "label", "category", "family", "place", "mask"]
    return _read_listing(root / "places.csv", columns, ",").assign(split="test")


def grocery_manifest(root: Path) -> pd.DataFrame:
    """List every photo of the Grocery Store data set (Klasson et al., WACV 2019), split by product.

    The lists that the folder holds (train.txt, val.txt, test.txt) are taken together. Products with an odd
    fine label are test, those with an even one train; of these every second is validation, so that it holds
    look-alikes too. Categories are the coarse classes.

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
        for number, line in enumerate(read_lines(path), start=1):
            if line.lstrip().startswith('"'):
                fields = next((f for f in (csv_fields(line, sep) for sep in ",;\t") if len(f) == 3), [])
            else:  # names may hold commas
                separator = next((sep for sep in ",;\t" if line.count(sep) > 1), ",")
                fields = [field.strip() for field in line.rsplit(separator, 2)]
            whole = len(fields) == 3 and fields[0] and all(re.fullmatch(WHOLE, f) for f in fields[1:])
            if not whole or int(fields[2]) not in names.index:
                raise ValueError(
                    f"{path} line {number} is {shorten(line)!r}: expected 'path, fine label, coarse label', "
                    "the coarse one from classes.csv"
                )
            rows.append((fields[0], int(fields[1]), names[int(fields[2])].replace("-", " ").lower()))
    manifest = pd.DataFrame(rows, columns=["path", "label", "category"])
    manifest["split"] = np.select(
        [manifest.label % 2 == 1, manifest.label % 4 == 2], ["test", "validation"], "train"
    )
    return manifest


def product_names(manifest: pd.DataFrame, source: str = "") -> pd.Series:
    """Return what each photo's product is called in its list, as texts.

    Args:
        manifest: of a study, or a part of it.
        source: of the study's data stage; "" for a transfer set, whose labels are its list's numbers.
    """
    named = manifest["product"] if "product" in manifest else manifest.label + (source in FROM_ONE)
    return named.astype(str)


def read_lines(path: Path) -> list[str]:
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
            "save it as UTF-8, or unpack the data set again"
        ) from None
    return text.rstrip("\n").split("\n") if text.strip() else []


def _read_listing(path: Path, columns: list[str], separator: str) -> pd.DataFrame:
    """Read a list file line by line, so that a malformed line can be named.

    With " " the last of the columns is a path that may hold spaces. With "," it is CSV: fields may be quoted,
    and the header tells whether ";" or a tab stands in place of the comma.
    """
    lines = read_lines(path)
    first = lines[0] if lines else ""
    separators = (" ",) if separator == " " else (",", ";", "\t")
    headers = {sep: first.split(" ") if sep == " " else csv_fields(first, sep) for sep in separators}
    fitting = [sep for sep, header in headers.items() if header[: len(columns)] == columns]
    if not fitting:
        raise ValueError(
            f"{path} starts with {shorten(first)!r}: expected the columns {', '.join(columns)}, separated by "
            f"{'spaces' if separator == ' ' else 'commas, semicolons or tabs'}"
        )
    header = headers[fitting[0]]
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if separator == " ":
            fields = _spaced_fields(line, len(columns), len(header) - len(columns))
        else:
            fields = csv_fields(line, fitting[0])
        if len(fields) != len(header) or not all(fields[: len(columns)]):
            raise ValueError(
                f"{path} line {number} is {shorten(line)!r}: "
                f"expected {len(header)} fields ({', '.join(header)})"
            )
        rows.append(fields[: len(columns)])
    table = pd.DataFrame(rows, columns=columns, dtype=str)
    for column in columns:
        if column in NUMBERS or column.endswith("(int)"):
            wrong = ~table[column].str.fullmatch(WHOLE)
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(
                    f"{path} line {row + 2}: {column} is {shorten(table[column][row])!r}, "
                    "expected a whole number"
                )
            table[column] = table[column].astype(int)
    return table


def csv_fields(line: str, separator: str) -> list[str]:
    """Return the fields of one line of CSV; none where its quotes are broken."""
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return []
    return [field.strip() for field in row]


def _spaced_fields(line: str, count: int, more: int) -> list[str]:
    """Return `count` fields of a line, of which the last holds spaces where it has some, then `more`."""
    fields = line.strip().split(" ", count - 1)
    rest = fields.pop().rsplit(" ", more) if len(fields) == count else []
    if rest and rest[0].startswith('"') and rest[0].endswith('"'):
        rest[0] = rest[0][1:-1]
    return [field.strip() for field in (*fields, *rest)]


def _beside(root: Path, name: str) -> Path:
    """Return where a list of Products-10k lies: in the folder, or beside the photos."""
    inside = root / ("train" if name == "train.csv" else "test") / name
    return inside if inside.exists() and not (root / name).exists() else root / name
