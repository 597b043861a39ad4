"""Rendered data sets on disk, in exactly the form of the real ones that they stand for."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

from tqdm import tqdm

from waldo_utils.disk.files import write_atomically
from waldo_utils.miniature.categories import SOP_CATEGORIES, TRANSFER_CATEGORIES
from waldo_utils.miniature.draws import Draws

SETTINGS = "settings.json"
RENDERER = 2  # version of the renderer: raise it whenever the same draws make other pixels


@dataclass(frozen=True)
class Job:
    """One family of look-alikes to render; file names are relative to the root."""

    root: str
    seed: int
    category: str
    index: int
    size: int  # of the photos, longer side in pixels
    difficulty: float
    photos: tuple[tuple[str, ...], ...]  # file names of each product's photos
    places: tuple[str, ...] = ()  # where a product's photos are taken, by name; (): nowhere that others are
    masks: tuple[tuple[str, ...], ...] = ()  # file names of the photos' masks of their product

    @property
    def files(self) -> list[str]:
        """All files that the job writes."""
        return [name for names in (*self.photos, *self.masks) for name in names]


def render_sop(
    root: Path,
    seed: int,
    families: int,
    family_size: int,
    photos: int,
    size: int,
    difficulty: float,
    test_fraction: float = 0.5,
    categories: Sequence[str] = tuple(SOP_CATEGORIES),
    processes: int | None = None,
) -> Path:
    """Render products of twelve categories in the form of Stanford Online Products.

    Writes `Ebay_train.txt`, `Ebay_test.txt` and `Ebay_info.txt` (space-separated: image_id, class_id,
    super_class_id, path) and one folder `<category>_final` of JPEGs per category. Families are split, so
    look-alikes never stand on both sides. A folder that is complete is left alone; one that was interrupted
    is finished; one of these settings by another version of the renderer is rendered anew.

    Args:
        root: the folder to write.
        seed: of all draws.
        families: look-alike families per category.
        family_size: products per family.
        photos: per product.
        size: longer side of the photos in pixels.
        difficulty: of the photos, 0 to 1.
        test_fraction: share of the families that is test, between 0 and 1; at least one family and not all.
        categories: which of the twelve.
        processes: to render with; None: one per core. The photos do not depend on it.

    Returns:
        `root`.

    Raises:
        ValueError: a setting makes no sense.
        FileExistsError: the folder holds a set of other settings, or one that was not rendered.
        RuntimeError: a rendering process ended before its time.
        locks.Held: `root` is among a profile's data, and another process writes for that profile.
    """
    settings = {
        "seed": seed,
        "families": families,
        "family_size": family_size,
        "photos": photos,
        "size": size,
        "difficulty": difficulty,
        "test_fraction": test_fraction,
        "categories": list(categories),
    }
    _check(settings, SOP_CATEGORIES, processes)
    # The last families are test; numbers run on over both splits, as in the published lists. A family is one
    # job, as its products are variations of one.
    test_families = min(max(round(families * test_fraction), 1), families - 1)
    jobs, lists, listing, image = [], {"train": [], "test": []}, 0, 0
    for split in ("train", "test"):
        for number, category in enumerate(categories, start=1):
            chosen = (
                range(families - test_families)
                if split == "train"
                else range(families - test_families, families)
            )
            for index in chosen:
                products = []
                for _ in range(family_size):
                    listing += 1
                    names = tuple(
                        f"{category}_final/{110_000_000_000 + listing}_{j}.JPG" for j in range(photos)
                    )
                    products.append(names)
                    for name in names:
                        image += 1
                        lists[split].append(f"{image} {listing} {number} {name}")
                jobs.append(Job(str(root), seed, category, index, size, difficulty, tuple(products)))
    header = "image_id class_id super_class_id path"
    files = {f"Ebay_{split}.txt": "\n".join([header, *rows]) + "\n" for split, rows in lists.items()}
    files["Ebay_info.txt"] = "\n".join([header, *lists["train"], *lists["test"]]) + "\n"
    return _render(root, settings, jobs, files, processes, "render products")


def render_products10k(
    root: Path,
    seed: int,
    families: int,
    family_size: int,
    photos: int,
    size: int,
    difficulty: float,
    categories: Sequence[str] = tuple(TRANSFER_CATEGORIES),
    processes: int | None = None,
) -> Path:
    """Render products of eight other categories in the form of Products-10k.

    Writes `train.csv` (name, class, group), `test_kaggletest.csv` (name, class, Usage), the photos in
    `train/` and `test/`, and `categories.csv` (group, name), which the real set lacks. Every product is in
    both: two fifths of its photos, at least two, are test. Arguments and errors are those of `render_sop`.
    """
    settings = {
        "seed": seed,
        "families": families,
        "family_size": family_size,
        "photos": photos,
        "size": size,
        "difficulty": difficulty,
        "categories": list(categories),
    }
    _check(settings, TRANSFER_CATEGORIES, processes, {"photos": 3})
    test_photos = max(round(photos * 0.4), 2)
    jobs, train, test, product = [], ["name,class,group"], ["name,class,Usage"], 0
    for group, category in enumerate(categories):
        for index in range(families):
            products = []
            for _ in range(family_size):
                names = []
                for j in range(photos):
                    name, is_test = f"{product:06d}_{j}.jpg", j >= photos - test_photos
                    names.append(f"{'test' if is_test else 'train'}/{name}")
                    if is_test:
                        test.append(f"{name},{product},{'Public' if j % 2 else 'Private'}")
                    else:
                        train.append(f"{name},{product},{group}")
                products.append(tuple(names))
                product += 1
            jobs.append(Job(str(root), seed, category, index, size, difficulty, tuple(products)))
    named = ["group,name", *(f"{group},{category}" for group, category in enumerate(categories))]
    files = {"train.csv": train, "test_kaggletest.csv": test, "categories.csv": named}
    files = {name: "\n".join(rows) + "\n" for name, rows in files.items()}
    return _render(root, settings, jobs, files, processes, "render transfer products")


def render_places(
    root: Path,
    seed: int,
    families: int,
    family_size: int,
    photos: int,
    size: int,
    difficulty: float,
    places: int,
    sharing: int,
    categories: Sequence[str] = tuple(SOP_CATEGORIES),
    processes: int | None = None,
) -> Path:
    """Render products that share their places: each stands in several, and in each stand several.

    Some families of look-alikes, of several categories, share floors, walls, clutter and lights, and every
    product of theirs stands in each. So for each photo there are others of the same product in another place,
    of other products in the same place, look-alikes among them, and of neither.

    Writes `places.csv` (path, label, category, family, place, mask), the photos, and where in them the
    product is: masks as PNG, brightness telling the share of a pixel. Arguments and errors are those of
    `render_sop`.

    Args:
        photos: per product and place.
        places: that a family stands in, at least two.
        sharing: families that share their places; the last ones may be fewer.
    """
    settings = {
        "seed": seed,
        "families": families,
        "family_size": family_size,
        "photos": photos,
        "size": size,
        "difficulty": difficulty,
        "places": places,
        "sharing": sharing,
        "categories": list(categories),
    }
    least = {"families": 1, "family_size": 1, "photos": 1, "size": 32, "places": 2, "sharing": 1}
    _check(settings, SOP_CATEGORIES, processes, least)
    jobs, rows, product = [], ["path,label,category,family,place,mask"], 0
    order = [(index, category) for index in range(families) for category in categories]
    for family, (index, category) in enumerate(order):
        rooms = [family // sharing * places + place for place in range(places) for _ in range(photos)]
        named = []
        for _ in range(family_size):
            named.append([f"{product:06d}_{j}" for j in range(len(rooms))])
            for name, room in zip(named[-1], rooms, strict=True):
                rows.append(
                    f"photos/{name}.jpg,{product},{category.replace('_', ' ')},{family},{room},"
                    f"masks/{name}.png"
                )
            product += 1
        jobs.append(
            Job(
                str(root),
                seed,
                category,
                index,
                size,
                difficulty,
                photos=tuple(tuple(f"photos/{name}.jpg" for name in names) for names in named),
                places=tuple(f"{seed}/place{room}" for room in rooms),
                masks=tuple(tuple(f"masks/{name}.png" for name in names) for names in named),
            )
        )
    files = {"places.csv": "\n".join(rows) + "\n"}
    return _render(root, settings, jobs, files, processes, "render shared places")


def render_family(job: Job) -> int:
    """Render the photos of one family that are not there yet, and return the number of all its photos."""
    from waldo_utils.miniature.develop import encode, encode_mask
    from waldo_utils.miniature.families import family
    from waldo_utils.miniature.photo import photograph

    root = Path(job.root)
    if not all((root / name).exists() for name in job.files):
        for member, (model, names) in enumerate(
            zip(family(job.seed, job.category, job.index, len(job.photos)), job.photos, strict=True)
        ):
            product = f"{job.seed}/{job.category}/{job.index}/{member}"
            for j, name in enumerate(names):
                written = [root / name] + [root / masks[j] for masks in job.masks[member : member + 1]]
                if all(path.exists() for path in written):
                    continue
                draws = Draws(f"{product}/photo{j}")
                where = {"place": Draws(job.places[j])} if job.places else {"room": Draws(f"{product}/room")}
                image, mask = photograph(model, draws, job.size, job.difficulty, **where)
                _write(written[0], encode(image, draws))
                for path in written[1:]:
                    _write(path, encode_mask(mask))
    return sum(len(names) for names in job.photos)


def _check(
    settings: dict, known: Iterable[str], processes: int | None, least: dict[str, int] | None = None
) -> None:
    for name, lowest in ({"families": 2, "family_size": 1, "photos": 2, "size": 32} | (least or {})).items():
        if settings[name] < lowest:
            raise ValueError(f"{name} is {settings[name]}: it must be at least {lowest}")
    if not 0 <= settings["difficulty"] <= 1:
        raise ValueError(f"difficulty is {settings['difficulty']}: it must lie in [0, 1]")
    if not 0 < settings.get("test_fraction", 0.5) < 1:
        raise ValueError(f"test_fraction is {settings['test_fraction']}: it must lie between 0 and 1")
    categories = settings["categories"]
    if not categories or len(set(categories)) < len(categories) or not set(categories) <= set(known):
        raise ValueError(f"categories is {categories}: choose some, each once, of {', '.join(known)}")
    if processes is not None and processes < 1:
        raise ValueError(f"processes is {processes}: it must be at least 1, or None for one per core")


def _render(
    root: Path, settings: dict, jobs: list[Job], files: dict[str, str], processes: int | None, title: str
) -> Path:
    """Render all jobs into `root`, then write the list files; do nothing if that has been done."""
    from waldo_utils.disk import artifacts  # not above: each rendering process would import pandas

    record, version = root / SETTINGS, RENDERER
    written_by_jobs = [name for job in jobs for name in job.files]
    if record.exists():
        written = json.loads(record.read_text(encoding="utf-8"))
        version = written.pop("renderer", 1)
        if written != settings:
            raise FileExistsError(
                f"{root} holds rendered photos of other settings: delete the folder, or choose another"
            )
        if version == RENDERER and all((root / name).exists() for name in (*files, *written_by_jobs)):
            return root
    elif any((root / name).exists() for name in files):
        raise FileExistsError(f"{root} holds a data set that was not rendered here: choose another folder")
    with artifacts.writing(root):
        if version != RENDERER:
            print(
                f"{root} was rendered by version {version} of the renderer: rendering it anew by {RENDERER}"
            )
            _clear(root, jobs, files)
        for folder in {(root / name).parent for name in written_by_jobs}:
            folder.mkdir(parents=True, exist_ok=True)
        _write(record, json.dumps(settings | {"renderer": RENDERER}, indent=2).encode())
        photos = sum(len(names) for job in jobs for names in job.photos)
        with tqdm(total=photos, desc=title, unit="photo") as bar:
            for count in _map(render_family, jobs, processes or os.cpu_count() or 1):
                bar.update(count)
        for name, text in files.items():
            _write(root / name, text.encode())
    return root


def _clear(root: Path, jobs: list[Job], files: dict[str, str]) -> None:
    """Delete what rendering wrote and nothing else, the lists first: an interrupted set never looks
    complete."""
    for name in [*files, *(name for job in jobs for name in job.files)]:
        (root / name).unlink(missing_ok=True)


def _map(function: Callable[[Job], int], jobs: list[Job], processes: int):
    """Yield the function of every job, in this process or in several."""
    if processes == 1:
        yield from map(function, jobs)
        return
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # inherited: the processes fill the cores already
    try:
        with ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=_end_with_parent
        ) as pool:
            try:
                yield from pool.map(function, jobs)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a rendering process ended before its time: call this under `if __name__ == '__main__':`, "
            "or with processes=1"
        ) from error
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda partial: partial.write_bytes(content))


def _end_with_parent() -> None:
    """Let this process end when the one that started it does: a killed one cannot tell its processes to."""

    def watch() -> None:
        wait([parent_process().sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
