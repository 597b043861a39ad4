"""Real photos of products within reach: three public sets, each checked against its list and gathered for one
study.

- SOP-85: 387 photos of 85 products of Stanford Online Products (chairs, sofas, cabinets, bicycles; a part of
  its train split, so no result on it is one of that data set's test).
- UKBench-250: the first 250 objects of UKBench (Nister and Stewenius, CVPR 2006), four photos each.
- Grocery Store (Klasson et al., WACV 2019), see `manifests.grocery_manifest`.

None of them is a part of this project. The lists beside this module give each photo's path in the public
repository, product, category, bytes and SHA-256.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

import pandas as pd

from waldo_utils.data import manifests, places
from waldo_utils.disk.faults import Fault, refuse
from waldo_utils.disk.files import write_atomically

LISTS = Path(__file__).parent / "lists"
HELD_OUT = 4  # every so many UKBench objects one is for validation
PARTIAL = "WALDO_PARTIAL"  # set: go on without the listed photos that are missing


@cache
def listed(name: str) -> pd.DataFrame:
    """Return the list of "sop85" or "ukbench250": `path` below the set's folder, `product`, `category`,
    `bytes` and `sha256`."""
    rows = pd.read_csv(LISTS / f"{name}.csv", dtype={"product": str, "category": str}, keep_default_na=False)
    below = places.MARKS[name][1][-1] + "/"  # its folder in the public repository
    return rows.assign(path=rows.path.str.removeprefix(below))


def gather(name: str, folder: Path, listing: Path | None = None) -> pd.DataFrame:
    """Copy a set's photos below a study's own folder, each checked against the list, and return its manifest.

    Photos that lie there already, whole, are left alone. Grocery Store has no list of hashes: what its own
    lists name is copied.

    Args:
        name: "sop85", "ukbench250" or "grocery".
        folder: of the study; the photos go to `folder / name`.
        listing: see `faults.refuse`.

    Returns:
        `path` below `folder`, `label` from 0, `category`, `product` as its list names it and, for Grocery
        Store, `split`.

    Raises:
        FileNotFoundError: the set is nowhere; says how to get it.
        ValueError: photos are missing or are not those of the list; all are listed. Missing ones are left out
            where the environment sets `WALDO_PARTIAL`, and counted.
        OSError: they cannot be written.
    """
    root = places.find_data(name)
    if name == "grocery":
        manifest = manifests.grocery_manifest(root)
        manifest = manifest.assign(product=manifest.label.astype(str))
        hashes: dict[str, str] = {}
    else:
        rows = listed(name)
        labels, category = (
            pd.factorize(rows["product"])[0],
            rows.category.where(rows.category != "", "object"),
        )
        manifest = pd.DataFrame(
            {"path": rows.path, "label": labels, "category": category, "product": rows["product"]}
        )
        hashes = dict(zip(rows.path, rows.sha256, strict=True))
    faults = [_copy(root / path, folder / name / path, path, hashes.get(path)) for path in manifest.path]
    missing = [fault is not None and fault.kind == MISSING for fault in faults]
    if any(missing) and os.environ.get(PARTIAL):
        print(f"{name}: {sum(missing)} of {len(manifest)} listed photos are missing and left out")
        faults = [fault for fault, absent in zip(faults, missing, strict=True) if not absent]
        manifest = manifest[[not absent for absent in missing]]
        alone = manifest.groupby("label").path.transform("size") < 2  # nothing to find
        manifest = manifest[~alone].reset_index(drop=True)
    refuse([fault for fault in faults if fault], listing)
    return manifest.assign(path=f"{name}/" + manifest.path)


MISSING = "are missing"


def _copy(source: Path, target: Path, path: str, sha256: str | None) -> Fault | None:
    """Copy one photo unless it is there, and return what is wrong with it."""
    if sha256 is None and target.is_file() and source.is_file():
        if target.stat().st_size == source.stat().st_size:
            return None
    elif sha256 and target.is_file() and _sha256(target.read_bytes()) == sha256:
        return None
    try:
        content = source.read_bytes()
    except OSError:
        return Fault(path, MISSING, f"get the set again, or set {PARTIAL}=1 to go on without them")
    if sha256 and _sha256(content) != sha256:
        return Fault(
            path,
            "are not those of the list (their hashes differ)",
            "get them from the commit that the list was made of",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, lambda partial: partial.write_bytes(content))
    return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def study_manifest(rendered: pd.DataFrame, folder: Path, listing: Path | None = None) -> pd.DataFrame:
    """Return one manifest of several sets, which are told apart by a column `set` and never searched
    together.

    Train: rendered products, three of four UKBench objects and half of the even Grocery products. Validation:
    the rest of these two. Test: SOP-85. Grocery's odd products are the transfer set (`transfer_manifest`).

    Args:
        rendered: manifest of rendered products, all of which train; with `family`.
        folder: where photos are gathered, see `gather`.
        listing: see `faults.refuse`.
    """
    ours = rendered.assign(split="train", product=(rendered.label + 1).astype(str))
    objects = gather("ukbench250", folder, listing)
    objects["split"] = (objects.label % HELD_OUT == HELD_OUT - 1).map({True: "validation", False: "train"})
    objects["family"] = objects.label  # no two objects look alike
    grocery = gather("grocery", folder, listing)
    grocery = grocery[grocery.split != "test"]
    grocery = grocery.assign(family=pd.factorize(grocery.category)[0])
    test = gather("sop85", folder, listing)
    test = test.assign(split="test", family=pd.factorize(test.category)[0])
    parts = {"rendered": ours, "UKBench-250": objects, "Grocery": grocery, "SOP-85": test}
    return _joined(parts)


def transfer_manifest(folder: Path, listing: Path | None = None) -> pd.DataFrame:
    """Return the manifest of Grocery Store's odd products, on which nothing is trained and nothing chosen."""
    manifest = gather("grocery", folder, listing)
    return manifest[manifest.split == "test"].assign(set="Grocery").reset_index(drop=True)


def _joined(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Join manifests below each other; products and families are numbered on."""
    joined, label, family = [], 0, 0
    for name, part in parts.items():
        numbers = pd.factorize(part.label, sort=True)[0], pd.factorize(part.family, sort=True)[0]
        joined.append(part.assign(set=name, label=numbers[0] + label, family=numbers[1] + family))
        label, family = label + numbers[0].max() + 1, family + numbers[1].max() + 1
    columns = ["path", "label", "category", "split", "set", "family", "product"]
    return pd.concat(joined, ignore_index=True)[columns]
