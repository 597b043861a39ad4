"""What an index of many photos takes: run as `python -m waldo_utils.own.scale`, it writes
`results/benchmarks/index_scale.csv`.

Features are drawn: products of five photos around directions at random.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from waldo_utils.app import index, index_files, searching
from waldo_utils.app.index_files import FORMAT, Photos
from waldo_utils.retrieval import exact, large_search
from waldo_utils.retrieval.feature_store import FeatureStore
from waldo_utils.speed import benchmark

PER_PRODUCT = 5
SPREAD = 0.7  # of a product's photos around its direction, as a share of the direction's length
QUERIES = 100
ADDED = 1_000


def drawn(seed: int, count: int, width: int) -> np.ndarray:
    """Return (count, width) features, the photos of a product side by side."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((-(-count // PER_PRODUCT), width), np.float32)
    rows = centers.repeat(PER_PRODUCT, axis=0)[:count]
    return exact.unit(rows + SPREAD * rng.standard_normal(rows.shape, np.float32))


def write_index(output: Path, photos: int, width: int) -> None:
    """Make or lengthen an index of drawn features, as `index.update` would."""
    models = searching.open_models(index_files.DEFAULT_MODEL)
    store = FeatureStore(output / "features-0123456789abcdef")
    numbers = np.arange(photos)
    digests = np.zeros((photos, 32), np.uint8)
    digests[:, :8] = numbers[:, None].view(np.uint8).reshape(photos, 8)
    for start in range(len(store), photos, large_search.BLOCK):
        count = min(large_search.BLOCK, photos - start)
        local = np.empty((count, 0, 1, 1), np.float16)
        store.append(digests[start : start + count], drawn(start, count, width), local)
    paths = [f"category{i // 5000:04}/product{i // PER_PRODUCT:07}/{i:08}.jpg" for i in range(photos)]
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


def look(output: Path) -> None:
    """Open an index in this process, search it, and print what that took."""
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
    print(seconds, np.quantile(times, 0.5), np.quantile(times, 0.95), share, peak())


def peak() -> float:
    """Return the most memory that this process has held, in MB."""
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def in_process(*arguments: object) -> list[float]:
    """Run this module's step in a process of its own and return the numbers that it printed."""
    run = [sys.executable, "-W", "ignore", "-m", "waldo_utils.own.scale", *map(str, arguments)]
    shown = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout
    return [float(number) for number in shown.split()]


def measure(sizes: list[int], width: int, work: Path) -> pd.DataFrame:
    """Write and return one row per size: seconds to write, to add a thousand and to open, ms per search, the
    share of exact neighbors, peak MB of both, bytes per photo."""
    rows = []
    for photos in sizes:
        output = work / hashlib.sha256(f"{photos} {width}".encode()).hexdigest()[:8]
        clock = time.perf_counter()
        (written,) = in_process("write", output, photos, width)
        made = time.perf_counter() - clock
        opened, middle, slow, share, searched = in_process("look", output)
        size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        clock = time.perf_counter()
        in_process("write", output, photos + ADDED, width)
        rows.append(
            {
                "photos": photos, "numbers": width, "write s": made, "write MB": written, "open s": opened,
                "search p50 ms": middle, "search p95 ms": slow, "exact neighbors": share,
                "search MB": searched, "bytes per photo": size / photos,
                f"add {ADDED} s": time.perf_counter() - clock,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
        table = pd.DataFrame(rows)
        benchmark.save("index_scale", table, benchmark.FOLDER, benchmark.machine())
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", nargs="*", help="used by this module alone")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--width", type=int, default=1280)
    options = parser.parse_args()
    if options.step[:1] == ["write"]:
        write_index(Path(options.step[1]), int(options.step[2]), int(options.step[3]))
        print(peak())
    elif options.step[:1] == ["look"]:
        look(Path(options.step[1]))
    else:
        with tempfile.TemporaryDirectory() as work:
            measure(options.sizes, options.width, Path(work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
