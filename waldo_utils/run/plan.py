"""What a profile would take on this machine: what each notebook has to do, by the rates that were measured
here."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from waldo_utils.data import checks, manifests, places
from waldo_utils.disk import artifacts
from waldo_utils.experiments import ablations, depths, product_or_place, severities
from waldo_utils.speed import rates
from waldo_utils.speed.rates import Machine
from waldo_utils.study import SharedPlaces, Study
from waldo_utils.training.mixing import SHARES

PRODUCTS10K = (141_931, 55_376)  # photos of train and test (Bai et al., 2020)
# Scores of notebook 08 that match patches (one of them both ways), and that do not.
MATCHINGS, TRANSFORMERS = 7, 3
UNCOUNTED = (
    "09_results",
    "10_speed_and_scale",
    "11_demo",
    "12_own_photos",
)  # minutes that hardly hang on the photos


@dataclass(frozen=True)
class Sizes:
    """How many photos a profile has."""

    train: int
    validation: int
    test: int
    test_products: int
    transfer_train: int
    transfer_test: int

    @property
    def photos(self) -> int:
        """Photos of all three splits."""
        return self.train + self.validation + self.test


def sizes(study: Study) -> Sizes:
    """Return how many photos a profile has: by its settings, by what was published, or as they lie here.

    Raises:
        ValueError, FileNotFoundError: they must be counted first, or found; says how.
    """
    transfer = PRODUCTS10K
    if study.data.transfer == "rendered":
        drawn = study.data.rendered_transfer
        each = max(round(0.4 * drawn.photos), 2)
        products = 8 * drawn.families * drawn.family_size
        transfer = (products * (drawn.photos - each), products * each)
    drawn = study.data.rendered
    if study.data.source == "rendered" and drawn:
        test_families = min(max(round(drawn.families * drawn.test_fraction), 1), drawn.families - 1)
        products = 12 * drawn.family_size * np.array([drawn.families - test_families, test_families])
        (train, test), asked = products * drawn.photos, products[1]
    elif study.data.source == "sop":
        train, (test, asked) = checks.SOP_COUNTS["train"][0], checks.SOP_COUNTS["test"]
    elif study.data.source == "sop_form":
        listed = manifests.sop_manifest(places.find_data("sop"))
        train, test = ((listed.split == name).sum() for name in ("train", "test"))
        asked = listed[listed.split == "test"].label.nunique()
    else:
        return _counted(study, transfer)
    held_out = round(train * study.data.hold_out)
    return Sizes(int(train - held_out), int(held_out), int(test), int(asked), *transfer)


def _counted(study: Study, transfer: tuple[int, int]) -> Sizes:
    """Return the sizes that notebook 01 has counted."""
    try:
        counts = artifacts.load_table(study, "counts").set_index("split")
        if study.data.transfer == "grocery":
            transfer = (0, len(artifacts.load_frame(study, "data/transfer_manifest")))
    except (FileNotFoundError, ValueError):
        raise ValueError(
            f"the photos of {study.name!r} are not counted yet: run its first notebook "
            f"(python -m waldo_utils run --profile {study.name} --only 01_prepare_data)"
        ) from None
    photos = counts.photos.reindex(["train", "validation", "test"], fill_value=0)
    return Sizes(*map(int, photos), int(counts.products["test"]), *transfer)


def work(study: Study, size: Sizes) -> dict[str, dict[str, float]]:
    """Return what each notebook has to do: notebook -> kind of work, as of `rates` -> how many.

    Args:
        study: the profile.
        size: its photos.
    """
    image, rerank, evaluation = study.global_, study.reranker, study.evaluation
    seeds, depth, shortlist = len(study.seeds), evaluation.depth, evaluation.shortlist
    seen = size.validation + size.test
    whole, tail = (0, 1) if image.views else (1, 0)  # of a further model: the trunk runs once for all
    done: dict[str, dict[str, float]] = {}

    rendered = size.photos if study.data.source == "rendered" else 0
    transfer = size.transfer_train + size.transfer_test
    rendered += transfer if study.data.transfer == "rendered" else 0
    done["01_prepare_data"] = {
        "render": rendered,
        "decode": 2 * (size.photos + transfer),
    }  # checked, then kept

    looks = image.epochs + 1  # at the validation photos, and at the test photos where they are watched
    watched = looks * size.test if evaluation.watch_test else 0
    extracted = size.photos + looks * size.validation + watched + len(SHARES) * size.validation + size.test
    done["02_train_global"] = {
        "trunk": size.train * image.views + seen if image.views else 0,
        "tail": size.train + 2 * size.test + seeds * extracted,
        "train CO": seeds * image.epochs * size.train,
        "similarities": seeds * (size.train**2 + 3 * size.test**2 + watched * size.test),
    }

    epochs = {"frozen": rerank.epochs, "finetuned": rerank.finetune_epochs}
    anchors = size.train if rerank.group else 3 * (rerank.triplets_per_epoch or size.train)
    judged = sum(epochs.values()) + 2
    done["03_train_reranker"] = {
        **{f"train {stage}": seeds * count * anchors for stage, count in epochs.items()},
        "tail": seeds * (judged * size.validation + 2 * seen),
        "pairs": seeds * depth * (judged * size.validation + 2 * seen),
        "matched pairs": (seeds + 1) * depth * size.test,
    }

    share = min((evaluation.ablation_products or size.test_products) / max(size.test_products, 1), 1.0)
    part, changes = share * size.test, len(severities.variants(image.resize, image.size))
    asking = min(max(ablations.QUERIES, share * size.test_products), part)
    done["04_ablate_transforms"] = {
        "whole": (1 + whole) * changes * part + 3 * part,  # CO and the frozen model share a backbone
        "tail": tail * changes * part,
        "train fresh": 3 * anchors,
        "pairs": 2 * depth * asking * (1 + 2 * changes) + 3 * depth * part,
    }
    kinds = 3 if study.data.source == "photos" else 1  # of train photos, each as many steps as all together
    done["05_evaluate_products10k"] = {
        "whole": (2 + 3 * whole) * transfer + kinds * size.transfer_test,
        "pairs": 4 * depth * size.transfer_test,
        "matched pairs": 4 * depth * size.transfer_test,
        "train CO": kinds * image.epochs * size.train,
        "tail": kinds * ((looks + len(SHARES)) * size.validation + size.test) + 3 * tail * transfer,
    }
    done["06_categories_and_neighbors"] = {"pairs": 2 * seeds * depth * seen / 4}
    grid = min(depths.QUERIES, size.test) if evaluation.ablation_products else size.test
    done["07_depth_fusion_baselines"] = {
        "whole": 3 * ((2 + whole) * size.test + grid) + size.test,
        "tail": 3 * tail * size.test,
        "pairs": 3 * 3 * shortlist * grid + depth * size.test,
        "matched pairs": seeds * 3 * depth * size.test,
        "similarities": 7 * size.test**2,
    }
    shared = {name: _placed(getattr(study.places, name)) for name in ("train", "test")}
    learned = study.places.epochs * shared["train"] * (1 + study.places.wrong)
    own = min(product_or_place.MOST / max(size.test_products, 1), 1.0) * size.test
    done["08_product_or_place"] = {
        "render": sum(shared.values()),
        "whole": (2 + 2 * whole) * sum(shared.values()),
        "tail": 2 * tail * sum(shared.values()),
        "train frozen": study.places.epochs * anchors,
        "pairs": TRANSFORMERS * depth * (shared["test"] + own + size.validation) + 3 * learned,
        "matched pairs": MATCHINGS * depth * (shared["test"] + own + size.validation),
    }
    return done


def _placed(drawn: SharedPlaces) -> int:
    """Return the photos of a set of shared places."""
    return 12 * drawn.families * drawn.family_size * drawn.places * drawn.photos


def predicted(study: Study, size: Sizes, machine: Machine) -> pd.DataFrame:
    """Predict what each notebook takes.

    Returns:
        One row per notebook: `notebook`, `minutes`, `most of it` (the kind of work that takes longest), `disk
        GB` that it adds, `memory GB` at its peak. Notebooks whose minutes hardly hang on the photos are left
        out.
    """
    disk = {
        "01_prepare_data": machine.photo_bytes * (size.photos + size.transfer_train + size.transfer_test),
        "02_train_global": (
            machine.map_bytes * work(study, size)["02_train_global"]["trunk"]
            + len(study.seeds)
            * size.photos
            * (machine.local_bytes + 4 * study.global_.dim + 12 * study.evaluation.shortlist)
        ),
        "03_train_reranker": 2 * len(study.seeds) * (size.validation + size.test) * machine.local_bytes,
    }
    held = {  # photos whose local features are held at once
        "04_ablate_transforms": 4 * size.test,
        "05_evaluate_products10k": 3 * (size.transfer_train + size.transfer_test),
    }
    rows = []
    for notebook, kinds in work(study, size).items():
        seconds = {kind: count / machine.rates[kind] for kind, count in kinds.items() if count}
        memory = machine.base_bytes + held.get(notebook, 2 * size.test) * machine.local_bytes
        trains = any(kind.startswith("train") for kind in kinds)
        rows.append(
            {
                "notebook": notebook,
                "minutes": sum(seconds.values()) / 60,
                "most of it": max(seconds, key=seconds.get),
                "disk GB": disk.get(notebook, 0.0) / 1e9,
                "memory GB": (memory + trains * machine.step_bytes) / 1e9,
            }
        )
    return pd.DataFrame(rows)


def report(study: Study, seconds: float = rates.SECONDS) -> str:
    """Measure this machine and return the plan of a profile as text; raises as `sizes` does, before anything
    is measured."""
    size = sizes(study)
    machine = rates.measure(study, seconds)
    table = predicted(study, size, machine)
    measured = ", ".join(f"{kind} {value:,.3g}" for kind, value in machine.rates.items())
    total = f"in all: {_duration(table.minutes.sum())}, {table['disk GB'].sum():.1f} GB of disk, "
    return "\n".join(
        [
            (
                f"{study.name}: {size.photos:,} photos ({size.train:,} train, {size.validation:,} validation,"
                f" {size.test:,} test), predicted for {machine.device} of this machine as busy as it is now"
            ),
            f"measured, a second: {measured}",
            "",
            table.to_string(
                index=False, formatters={"minutes": "{:,.1f}".format}, float_format="{:.2f}".format
            ),
            "",
            (
                f"{total}{table['memory GB'].max():.1f} GB of memory at the peak; not counted: the raw"
                f" photos, mapped files, whose memory the system takes back, and {', '.join(UNCOUNTED)}"
            ),
        ]
    )


def _duration(minutes: float) -> str:
    """Return "12 minutes" or "3.4 hours"."""
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
