"""What an index of many photos takes: run as `python -m waldo_utils.own.scale FOLDER`, it writes
`results/benchmarks/index_scale.csv`.

FOLDER holds photos, one sub-folder per product. Two kinds of galleries are made of it: copies of its photos,
each a file of its own bytes, indexed as any folder is; and, beyond what can be computed in minutes, features
drawn around those of its photos.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from waldo_utils.app import index, index_files, searching
from waldo_utils.app.index_files import FORMAT, Photos
from waldo_utils.data import folders
from waldo_utils.retrieval import approximate, exact, large_search
from waldo_utils.retrieval.feature_store import FeatureStore
from waldo_utils.speed import benchmark

DRAWN = (10_000, 100_000, 1_000_000)
COPIES = (10_000, 100_000)
QUERIES = 100
ADDED = 1_000
PER_PRODUCT, PER_CATEGORY = 5, 5_000  # drawn photos that share a folder's name


def write_copies(source: Path, target: Path, photos: int) -> None:
    """Fill a folder with copies of a folder's photos, or add to it, up to a number of photos.

    Behind the picture each copy holds its own number: readers pass over it, and no two files are equal.
    """
    names = folders.walk(source).photos
    for i in range(len(folders.walk(target).photos) if target.is_dir() else 0, photos):
        name = Path(names[i % len(names)])
        path = target / f"{i // len(names)}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source / name).read_bytes() + i.to_bytes(8, "big"))


def write_drawn(source: Path, output: Path, photos: int) -> None:
    """Make or lengthen an index of features drawn around another index's, as `index.update` would.

    Args:
        source: index of photos whose folders name products.
        output: of the drawn ones.
        photos: how many it shall hold.
    """
    models = searching.open_models(index_files.DEFAULT_MODEL)
    known = index.open_index(source, models).gallery
    features, products = exact.unit(known.embedding[:]), known.products.astype(str)
    store = FeatureStore(output / "features-0123456789abcdef")
    numbers = np.arange(photos)
    digests = np.zeros((photos, 32), np.uint8)
    digests[:, :8] = numbers[:, None].view(np.uint8).reshape(photos, 8)
    for start in range(len(store), photos, large_search.BLOCK):
        count = min(large_search.BLOCK, photos - start)
        drawn = approximate.drawn_gallery(features, products, count, seed=start)
        store.append(digests[start : start + count], drawn, np.empty((count, 0, 1, 1), np.float16))
    paths = [f"category{i // PER_CATEGORY:04}/product{i // PER_PRODUCT:07}/{i:08}.jpg" for i in range(photos)]
    table = Photos(paths, numbers, numbers, digests, numbers, {})
    old = index_files.read_record(output)
    record = {
        "format": FORMAT, "folder": str(output), "from here": "", "profile": index_files.DEFAULT_MODEL,
        "weights": models.weights, "digest": models.digest, "models": "", "files": photos,
        "features": store.folder.name, "rows": photos, "passed": {},
        "photos": index_files.write_photos(output, table),
    }  # fmt: skip
    index._finish(output, output, record, table, store, models, old)
    index._remove_others(output, index_files.read_record(output))


def look(output: Path) -> tuple[float, ...]:
    """Open an index in this process and search it with some of its photos; return the seconds to open it, ms
    per search (median and 95 %), and the share of the exact neighbors that it finds."""
    models = searching.open_models(index_files.DEFAULT_MODEL)
    clock = time.perf_counter()
    opened = index.open_index(output, models)
    seconds = time.perf_counter() - clock
    rows = np.random.default_rng(0).integers(len(opened.gallery), size=QUERIES)
    times = []
    for row in rows:
        query = exact.unit(opened.gallery.embedding[row : row + 1])
        clock = time.perf_counter()
        opened.gallery.nearest(query, searching.DEPTH)
        times.append(1000 * (time.perf_counter() - clock))
    share = 1.0 if opened.share is None else opened.share
    return seconds, *np.quantile(times, [0.5, 0.95]), share


def index_photos(folder: Path, output: Path) -> None:
    """Index a folder of photos."""
    models = searching.open_models(index_files.DEFAULT_MODEL)
    index.update(folder, output, models, index_files.DEFAULT_MODEL)


STEPS = {"drawn": write_drawn, "look": look, "photos": index_photos}


def peak() -> float:
    """Return the most memory that this process has held, in MB."""
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def in_process(step: str, *arguments: object) -> list[float]:
    """Run a step in a process of its own; return the seconds it took, its peak memory in MB and what it
    returned."""
    clock = time.perf_counter()
    run = [sys.executable, "-W", "ignore", "-m", "waldo_utils.own.scale", step, *map(str, arguments)]
    shown = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [time.perf_counter() - clock, *(float(number) for number in shown.split())]


def make(kind: str, source: Path, work: Path, output: Path, photos: int) -> list[float]:
    """Make or lengthen an index of so many photos of a kind, "copies" or "drawn"; return what `in_process`
    does."""
    if kind == "drawn":
        return in_process("drawn", work / "source", output, photos)
    folder = work / f"photos of {output.name}"
    write_copies(source, folder, photos)
    return in_process("photos", folder, output)


def measure(source: Path, copies: list[int], drawn: list[int], work: Path, results: Path) -> pd.DataFrame:
    """Measure galleries of both kinds in several sizes, and write `index_scale.csv` after each.

    Returns:
        One row per kind and size: seconds and peak MB of a process that makes the index, seconds of one that
        adds a thousand photos, seconds to open it, ms per search, share of the exact neighbors, MB of a
        process that searches, bytes per photo.
    """
    in_process("photos", source, work / "source")
    rows = []
    for kind, photos in [("copies", size) for size in copies] + [("drawn", size) for size in drawn]:
        output = work / f"{kind}{photos}"
        made, written = make(kind, source, work, output, photos)
        _, searched, opened, middle, slow, share = in_process("look", output)
        size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        rows.append(
            {
                "features": kind, "photos": photos, "make s": made, "make MB": written,
                f"add {ADDED} s": make(kind, source, work, output, photos + ADDED)[0], "open s": opened,
                "search p50 ms": middle, "search p95 ms": slow, "exact neighbors": share,
                "search MB": searched, "bytes per photo": size / photos,
            }
        )  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
        benchmark.save("index_scale", pd.DataFrame(rows), results, benchmark.machine())
    return pd.DataFrame(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="photos, one sub-folder per product")
    parser.add_argument("--copies", type=int, nargs="*", default=COPIES, help="photos in folders of copies")
    parser.add_argument("--drawn", type=int, nargs="*", default=DRAWN, help="photos whose features are drawn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        measure(options.folder, options.copies, options.drawn, Path(work), benchmark.FOLDER)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in STEPS:  # in a process of its own
        step, *places = sys.argv[1:]
        taken = STEPS[step](*(int(place) if place.isdecimal() else Path(place) for place in places))
        print(peak(), *(taken or ()))
    else:
        sys.exit(main())
