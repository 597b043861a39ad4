"""Train the last blocks of a network on a folder of one's own, as far as the time given goes, and say whether
it helped.

Rate, length and the share of the trained weights are chosen on held-out products; others, which chose
nothing, judge. Measured by hand on a few hundred photos: some forty gentle steps help, three times the rate
hurts.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from waldo_utils.app.index_files import product_of
from waldo_utils.data import folders
from waldo_utils.data.photo_cache import PhotoFiles
from waldo_utils.data.reading import read_photo
from waldo_utils.data.transforms import TestTransform, TrainTransform
from waldo_utils.disk.files import check_writable, write_atomically
from waldo_utils.disk.locks import hold
from waldo_utils.evaluation import comparisons, metrics
from waldo_utils.models import runs, starting_weights
from waldo_utils.models.devices import device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.retrieval import exact
from waldo_utils.retrieval.trunk_maps import TrunkMaps, compute_trunk_maps
from waldo_utils.study import GlobalStage
from waldo_utils.training import loop, mixing
from waldo_utils.training.global_training import global_gradients
from waldo_utils.training.samplers import identity_batches

BACKBONE, SIZE = "efficientnet_lite0", 224
RATES = (3e-5, 1e-4)
SETTINGS = GlobalStage(
    backbone=BACKBONE,
    resize=SIZE,
    size=SIZE,
    crop_scale=(0.3, 1.0),
    batch=64,
    micro_batch=16,
    temperature=0.07,
    optimizer="adamw",
)
VIEWS = 4
BLOCK = 10  # steps between two looks at the held-out products
MOST_STEPS = 150  # of each rate
MOST_PHOTOS = 6_000  # whose maps are held: 1.1 GB
HELD_OUT = 0.2  # of the products choose, as many judge
FEWEST = 6  # products: two each to learn from, to choose by and to judge by
PARTS = ("train", "choose", "judge")


@dataclass(frozen=True)
class Plan:
    """What fits into the time given on this machine."""

    content: str  # of the photos and the settings, as a hash
    photos: int
    products: int
    steps: int  # of each rate
    minutes: float  # that it should take


def choose_products(folder: Path, say: Callable[[str], None] = print) -> pd.DataFrame:
    """Return the photos that a training uses: `path`, `product`, `label` and `part`, whole products in each.

    Args:
        folder: its sub-folders name products.
        say: is told what was passed over, where something was.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has too few products of two photos.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the folder whose sub-folders name products")
    listing = folders.walk(folder)
    if passed := listing.sentence():
        say(passed)
    paths = [path for path in listing.photos if product_of(path)[0]]
    table = pd.DataFrame({"path": paths, "product": [product_of(path)[0] for path in paths]})
    table = table[table["product"].map(table["product"].value_counts()) > 1]
    products = np.random.default_rng(0).permutation(sorted(set(table["product"])))
    if len(products) < FEWEST:
        raise ValueError(
            f"{folder} has {len(products)} products of two photos or more, and a training needs {FEWEST} "
            "(two each to learn from, to choose by and to judge by): add products, each a sub-folder"
        )
    count = max(2, round(HELD_OUT * len(products)))
    part = dict.fromkeys(products, "train")
    part |= dict.fromkeys(products[:count], "choose") | dict.fromkeys(products[count : 2 * count], "judge")
    sizes = table.groupby("product").size()
    kept, held = [], dict.fromkeys(PARTS, 0)
    for product in products:  # as many whole products as memory has room for
        share = MOST_PHOTOS if part[product] == "train" else MOST_PHOTOS // 4
        if held[part[product]] + sizes[product] <= share or held[part[product]] == 0:
            kept.append(product)
            held[part[product]] += sizes[product]
    table = table[table["product"].isin(kept)].reset_index(drop=True)
    return table.assign(label=pd.factorize(table["product"])[0], part=table["product"].map(part))


def train(
    folder: Path,
    name: str,
    minutes: float,
    say: Callable[[str], None] = print,
    most_steps: int | None = None,
) -> pd.DataFrame:
    """Train on a folder and keep the model as "runs/NAME"; a killed training goes on where it was.

    Args:
        folder: its sub-folders name products.
        name: of the training.
        minutes: that it may take, about.
        say: gets each line that is told.
        most_steps: of each rate, although more would fit; None: `MOST_STEPS`.

    Returns:
        Trained against the start on products that chose nothing, as `comparisons.paired_differences` gives
        it.

    Raises:
        FileExistsError: there is a finished training of this name.
        ValueError: there are too few products, a photo cannot be read, or the time is too short.
        locks.Held: this training is going on.
    """
    if not minutes > 0:
        raise ValueError(f"--minutes {minutes} is no time: choose 20, or what you can wait")
    target = runs.folder_of(name)
    table = choose_products(folder, say)
    if (target / "run.json").exists():
        raise FileExistsError(f"{target} holds a finished training: choose another --name, or remove it")
    check_writable(target)
    with hold(target / ".lock"):
        return _train(folder, table, name, target / "unfinished", minutes, say, most_steps or MOST_STEPS)


def _train(
    folder: Path,
    table: pd.DataFrame,
    name: str,
    begun: Path,
    minutes: float,
    say: Callable[[str], None],
    most_steps: int,
) -> pd.DataFrame:
    model = starting_weights.image_model(SETTINGS, projected=False).to(memory_format=torch.channels_last)
    table, content = _readable(folder, table, say, most_steps)
    plan = _old_plan(begun, content)
    if plan is None:
        shutil.rmtree(begun, ignore_errors=True)
        plan = make_plan(folder, table, model, minutes, content, most_steps)
        text = json.dumps(asdict(plan))
        write_atomically(begun / "plan.json", lambda partial: partial.write_text(text, encoding="utf-8"))
    else:
        say("goes on where it was")
    say(
        f"{plan.photos} photos of {plan.products} products; {plan.steps} steps at each of {len(RATES)} "
        f"rates, about {plan.minutes:.0f} minutes on this machine"
    )
    maps = {part: _maps(folder, table[table.part == part], model, part, begun) for part in PARTS}
    labels = {part: table.label[table.part == part].to_numpy() for part in PARTS}
    start = {key: value.cpu().clone() for key, value in model.state_dict().items()}
    chooses = partial(_score, model, maps["choose"], labels["choose"])
    before = _values(model, maps["judge"], labels["judge"])
    tried, best = [], (float(chooses()), 0.0, 0.0, start)  # score, rate, share, weights
    for rate in RATES:
        model.load_state_dict(start)
        log = _fit(model, maps["train"], labels["train"], rate, plan.steps, chooses, begun)
        end = {key: value.cpu().clone() for key, value in model.state_dict().items()}
        shares = mixing.choose_share(model, start, end, chooses)
        chosen = shares[shares.chosen].iloc[0]
        score = float(chosen["validation R@1"])
        looks = log["validation R@1"]
        length = BLOCK * int(log.epoch[looks == looks.max()].max())
        tried.append({"rate": rate, "steps": length, "share": float(chosen.share), "held-out": score})
        if score > best[0]:
            kept = {key: value.cpu().clone() for key, value in model.state_dict().items()}
            best = (score, rate, float(chosen.share), kept)
    model.load_state_dict(best[3])
    after = _values(model, maps["judge"], labels["judge"])
    tables = [
        comparisons.paired_differences(
            {"trained": after[metric], "zero-shot": before[metric]},
            [("trained", "zero-shot")],
            labels["judge"],
            10_000,
            metric,
        ).assign(trained=after[metric].mean(), start=before[metric].mean())
        for metric in ("R@1", "MAP@R")
    ]
    judged = pd.concat(tables, ignore_index=True)
    say(verdict(judged, best[1]))
    facts = {
        "backbone": BACKBONE,
        "size": SIZE,
        "folder": str(folder.resolve()),
        "photos": int((table.part == "train").sum()),
        "products": {part: sorted(set(table["product"][table.part == part])) for part in PARTS},
        "tried": tried,
        "chosen": {"rate": best[1], "share": best[2]},
        "judged": judged.to_dict("records"),
    }
    runs.save(name, model, facts)
    shutil.rmtree(begun, ignore_errors=True)
    return judged


def verdict(judged: pd.DataFrame, rate: float) -> str:
    """Say in words whether a training helped; `judged` as `train` returns it, `rate` 0 where the start was
    kept."""
    lines = [
        f"{row.metric} on {row.products} products that chose nothing: zero-shot {100 * row.start:.1f}, "
        f"trained {100 * row.trained:.1f}, {100 * row.difference:+.1f} points ({100 * row.low:+.1f} to "
        f"{100 * row.high:+.1f})"
        for row in judged.itertuples()
    ]
    if rate == 0:
        why = "no training was better than the start on the products that choose"
        last = f"training did not help: {why}, so the start is kept"
    elif (judged.low > 0).any():
        last = "training helped"
    elif (judged.high < 0).any():
        last = "training did harm: use the model as it was"
    else:
        last = (
            "training did not help by more than chance would give: with few products, or where nearly all is "
            "found already, it cannot be told"
        )
    return "\n".join([*lines, last])


def _readable(
    folder: Path, table: pd.DataFrame, say: Callable[[str], None], most_steps: int
) -> tuple[pd.DataFrame, str]:
    """Return the photos that can be read, and a hash of what decides a training."""
    faults = {}
    digest = hashlib.sha256(repr((SETTINGS, RATES, VIEWS, most_steps)).encode())
    for path in tqdm(table.path, desc="look at the photos", unit="photo", leave=False):
        try:
            read_photo(folder / path, path)
            facts = (folder / path).stat()
            digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}".encode("utf-8", "surrogateescape"))
        except (ValueError, OSError) as error:
            faults[path] = str(error)
    if faults:
        say(f"left out {len(faults)} photos that cannot be read, the first: {next(iter(faults.values()))}")
        table = table[~table.path.isin([*faults])]
        table = table[table.label.map(table.label.value_counts()) > 1].reset_index(drop=True)
    if any(table.label[table.part == part].nunique() < 2 for part in PARTS):
        raise ValueError(
            f"too few photos of {folder} can be read ({next(iter(faults.values()))}): restore them"
        )
    return table, digest.hexdigest()


def _old_plan(begun: Path, content: str) -> Plan | None:
    """Return the plan of a training that was killed, None where there is none for these photos."""
    try:
        plan = Plan(**json.loads((begun / "plan.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return plan if plan.content == content else None


def make_plan(
    folder: Path, table: pd.DataFrame, model: ImageModel, minutes: float, content: str, most_steps: int
) -> Plan:
    """Return the plan that fits, by the time that some photos and one step take here.

    Raises:
        ValueError: not even a few steps fit.
    """
    some = PhotoFiles(table[:16], folder, SIZE)
    plain, crop = _transforms()
    compute_trunk_maps(model, some, plain)  # prepared once: not counted
    clock = time.perf_counter()
    maps = compute_trunk_maps(model, some, plain, crop, 2)
    photo = (time.perf_counter() - clock) / (2 * len(some))
    batch = torch.from_numpy(
        np.tile(maps[:, 0], (-(-SETTINGS.batch // len(some)), 1, 1, 1))[: SETTINGS.batch]
    )
    labels = torch.arange(len(batch)) // 2
    model.to(device())
    clock = time.perf_counter()
    global_gradients(model, batch.to(device()), labels, SETTINGS)
    step = time.perf_counter() - clock
    model.zero_grad(set_to_none=True)
    counts = table.part.value_counts()
    views = VIEWS * counts["train"] + counts["choose"] + counts["judge"]
    look = counts["choose"] * step / (3 * SETTINGS.batch)  # a forward pass alone
    fixed = views * photo + 2 * counts["judge"] * step / (3 * SETTINGS.batch)
    each = len(RATES) * (BLOCK * step + look)  # of one block at every rate
    mixed = len(RATES) * len(mixing.SHARES) * look
    blocks = int((60 * minutes - fixed - mixed) / each)
    if blocks < 1:
        needed = (fixed + mixed + each) / 60
        raise ValueError(
            f"--minutes {minutes:g} is too short for {len(table)} photos on this machine: "
            f"{needed:.1f} is the least"
        )
    steps = BLOCK * min(blocks, most_steps // BLOCK)
    seconds = fixed + mixed + each * steps / BLOCK
    return Plan(content, len(table), table.label.nunique(), steps, float(seconds / 60))


def _transforms() -> tuple[TestTransform, TrainTransform]:
    return TestTransform(SIZE, SIZE), TrainTransform(SIZE, scale=SETTINGS.crop_scale, flip=SETTINGS.flip)


def _maps(folder: Path, part: pd.DataFrame, model: ImageModel, name: str, begun: Path) -> TrunkMaps:
    """Return the trunk's maps of a part, several views of train photos, kept until the training ends."""
    path = begun / f"{name}_maps.npy"
    if not path.exists():
        photos, (plain, crop) = PhotoFiles(part, folder, SIZE), _transforms()
        views = VIEWS if name == "train" else 1
        maps = compute_trunk_maps(model, photos, plain, crop, views, partial=begun / f"{name}_maps")
        write_atomically(path, lambda partial: np.save(partial, maps))
    return TrunkMaps(np.load(path, mmap_mode="r", allow_pickle=False))


def _fit(
    model: ImageModel,
    maps: TrunkMaps,
    labels: np.ndarray,
    rate: float,
    steps: int,
    chooses: Callable[[], float],
    begun: Path,
) -> pd.DataFrame:
    """Train the tail in place with one rate; at the end it holds the weights that chose best.
    Return the log."""
    groups = int((pd.Series(labels).value_counts() // 2).sum())
    settings = replace(SETTINGS, batch=min(SETTINGS.batch, 2 * groups))

    def batches(rng: np.random.Generator) -> Iterator[np.ndarray]:
        while True:
            yield from identity_batches(labels, settings.batch, settings.photos_per_product, rng)

    def steps_from(epoch: int, first: int) -> Iterator[Tensor]:
        drawn = batches(np.random.default_rng([0, epoch]))
        generator = torch.Generator().manual_seed(epoch)
        for number, rows in zip(range(BLOCK), drawn, strict=False):
            views = maps.draw(rows, generator)  # drawn for steps that are done as well: the same on resuming
            if number >= first:
                yield global_gradients(model, views.to(device()), torch.from_numpy(labels[rows]), settings)

    model.eval().to(device())
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return loop.fit(
        model,
        lambda epoch, first: loop.progress(steps_from(epoch, first), epoch, first, BLOCK),
        BLOCK,
        steps // BLOCK,
        settings.optimizer,
        [(model.backbone, rate)],
        settings.weight_decay,
        (),
        chooses,
        begun / f"rate{rate:g}.pt",
    )


def _values(model: ImageModel, maps: TrunkMaps, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return R@1 and MAP@R of each photo, searched among the others of its part."""
    model.eval().to(device())
    parts = []
    with torch.inference_mode():
        for start in range(0, len(maps), SETTINGS.batch):
            rows = range(start, min(start + SETTINGS.batch, len(maps)))
            batch = torch.stack([maps[row] for row in rows]).to(device())
            parts.append(model.global_features(model.feature_map(batch)).float().cpu().numpy())
    relevant = metrics.relevant_counts(labels)
    neighbors, _ = exact.nearest_neighbors(np.concatenate(parts), int(relevant.max()))
    return metrics.per_query(metrics.hits(neighbors, labels, labels), relevant, (1,))


def _score(model: ImageModel, maps: TrunkMaps, labels: np.ndarray) -> float:
    """Return what chooses: MAP@R, which moves where R@1 stands still."""
    return float(_values(model, maps, labels)["MAP@R"].mean())
