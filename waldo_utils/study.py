"""The settings of the study: one frozen `Study` per profile.

The defaults of the dataclasses *are* the published values (RRT; Tan et al., ICCV 2021), so every
profile but "paper" reads as a list of deviations. Paths and devices are facts of the machine and are not in
here.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class RenderedSet:
    """How a set of products is rendered; lengths in pixels."""

    seed: int
    families: int  # look-alike families per category
    family_size: int = 3  # products per family
    photos: int = 5  # per product, as in Stanford Online Products
    size: int = 160  # longer side
    difficulty: float = 0.5  # 0: plain photos of the front; 1: clutter, odd angles, hard light
    test_fraction: float = 0.5  # share of the families that is test; has no meaning for a transfer set


@dataclass(frozen=True)
class DataStage:
    """Which photos the study reads and how they are kept."""

    source: str = "sop"  # "sop", of the published counts; "sop_form", of any; "rendered" or "photos"
    transfer: str = "products10k"  # "products10k", "rendered" or "grocery"
    rendered: RenderedSet | None = None
    rendered_transfer: RenderedSet | None = None
    hold_out: float = 0.2  # share of the train products kept for validation (UnED: 2,264 of SOP's 11,318)
    cache_size: int = 256  # shorter side of the decoded photos


@dataclass(frozen=True)
class GlobalStage:
    """The image model and its training with the contrastive loss."""

    backbone: str = "resnet50"  # or "efficientnet_lite0", or "timm:NAME"
    start: str = "imagenet"  # or "random"
    # 0: the whole backbone trains, on crops drawn anew; else its trunk stays as it starts, and so many views
    # of each photo, the plain one and random crops, go through it once.
    views: int = 0
    dim: int = 128  # of the projections: numbers of a global and of a local feature
    heads: str = "random"  # how the projections start; "principal": as the train photos' principal axes
    resize: int = 256  # test photos: resized to this square,
    size: int = 224  # then cropped to this one; train photos: random crops of this size
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5  # chance that a train photo is mirrored
    epochs: int = 100
    batch: int = 800  # photos
    micro_batch: int | None = None  # photos whose activations are held at once; None: the whole batch's
    photos_per_product: int = 2
    families_meet: bool = False  # whether look-alikes (a rendered set's families) come in one batch
    optimizer: str = "sgd"  # Nesterov momentum 0.9
    learning_rate: float = 0.001
    head_learning_rate: float | None = None  # of the global projection; None: as the backbone's
    weight_decay: float = 4e-4
    # Epochs after which the learning rate falls tenfold; (): one cosine to zero.
    drops: tuple[int, ...] = (60, 80)
    temperature: float = 0.05


@dataclass(frozen=True)
class RerankerStage:
    """The reranking transformer and its two trainings."""

    layers: int = 6
    heads: int = 4
    feedforward: int = 1024
    matching: bool = False  # add local matching to the score, and start from it
    epochs: int = 100
    triplets: int = 100  # per batch: an anchor, another photo of its product, a hard negative
    triplets_per_epoch: int | None = None  # None: every train photo is an anchor once
    negatives: int = 100  # hard negatives come from the first so many neighbors in train
    group: int | None = None  # None: triplets and the pair loss; else each batch holds groups of so many
    # look-alike products, two photos each, and every photo is an anchor with a list of its group's
    # (`list_loss`)
    groups: int = 12  # per batch
    crop_scale: tuple[float, float] | None = None  # of the train photos; None: as the global stage's
    learning_rate: float = 1e-4
    local_learning_rate: float | None = None  # of the local projection while frozen; None: the transformer's
    weight_decay: float = 4e-4
    drops: tuple[int, ...] = (60, 80)
    finetune_epochs: int = 100
    finetune_learning_rate: float = 1e-4  # of the backbone while it is finetuned


@dataclass(frozen=True)
class EvaluationStage:
    """How results are counted."""

    shortlist: int = 100  # neighbors kept per query
    depth: int = 100  # of which so many are reranked
    resamples: int = 10_000  # of the bootstrap over products
    watch_test: bool = True  # log CO's test recall each epoch too, for the published choice; chooses nothing
    ablation_products: int | None = None  # products of the transform grid; None: all


@dataclass(frozen=True)
class SharedPlaces:
    """How products are rendered that share their places (`miniature.datasets.render_places`)."""

    seed: int
    families: int  # look-alike families per category
    family_size: int = 3
    photos: int = 1  # per product and place
    size: int = 144
    difficulty: float = 0.3
    places: int = 4  # that each product stands in
    sharing: int = 4  # families that share them


@dataclass(frozen=True)
class PlaceStage:
    """Product or place: two rendered sets, and how patch weights and the transformer learn from the
    second."""

    test: SharedPlaces = SharedPlaces(seed=8, families=2)
    train: SharedPlaces = SharedPlaces(seed=9, families=3)
    hold_out: float = 0.34  # share of the train set's places, with all that stands there, that chooses
    epochs: int = 4
    weight_epochs: int = 20  # of a patch's weight on swapped backdrops, where they cost seconds
    anchors: int = 24  # lists per batch
    wrong: int = 5  # photos of other products in a list, all in the anchor's place
    weight_learning_rate: float = 1e-2  # of a patch's weight
    learning_rate: float = 1e-4  # of the transformer


@dataclass(frozen=True)
class Study:
    """All settings of one run of the notebooks."""

    name: str
    summary: str
    data: DataStage = field(default_factory=DataStage)
    global_: GlobalStage = field(default_factory=GlobalStage)
    reranker: RerankerStage = field(default_factory=RerankerStage)
    evaluation: EvaluationStage = field(default_factory=EvaluationStage)
    places: PlaceStage = field(default_factory=PlaceStage)
    seeds: tuple[int, ...] = (0,)


_SMALL_GLOBAL = GlobalStage(
    backbone="efficientnet_lite0",
    views=4,
    heads="principal",
    resize=224,
    size=224,
    crop_scale=(0.3, 1.0),
    epochs=2,
    batch=96,
    families_meet=True,
    optimizer="adamw",
    learning_rate=1e-4,
    head_learning_rate=5e-4,
    drops=(),
)
_SMALL_RERANKER = RerankerStage(
    layers=2,
    feedforward=256,
    matching=True,
    epochs=3,
    negatives=30,
    group=4,
    learning_rate=3e-4,
    local_learning_rate=2e-3,
    drops=(),
    finetune_epochs=2,
    finetune_learning_rate=1e-4,
)
_TRANSFER = RenderedSet(seed=2, families=8, size=144, difficulty=0.3)
_FEW_PLACES = PlaceStage(
    test=SharedPlaces(seed=6, families=1, family_size=2, size=64, places=2),
    train=SharedPlaces(seed=7, families=1, family_size=2, size=64, places=2),
    epochs=1,
    weight_epochs=1,
    wrong=3,
)

PROFILES: dict[str, Study] = {
    study.name: study
    for study in (
        Study(
            name="mini",
            summary="rendered products",
            data=DataStage(
                source="rendered",
                transfer="rendered",
                cache_size=224,
                rendered=RenderedSet(seed=1, families=40, size=144, difficulty=0.3, test_fraction=0.25),
                rendered_transfer=_TRANSFER,
                hold_out=0.1,
            ),
            global_=_SMALL_GLOBAL,
            reranker=_SMALL_RERANKER,
            evaluation=EvaluationStage(depth=30, ablation_products=50),
            seeds=(0,),
        ),
        Study(
            name="smoke",
            summary="a few rendered products: tests the machinery, not the method",
            data=DataStage(
                source="rendered",
                transfer="rendered",
                cache_size=64,
                rendered=RenderedSet(seed=3, families=4, family_size=2, size=80),
                rendered_transfer=RenderedSet(seed=4, families=2, family_size=2, size=80),
            ),
            global_=replace(_SMALL_GLOBAL, views=2, resize=64, size=64, epochs=1, batch=32),
            reranker=replace(_SMALL_RERANKER, epochs=1, groups=2, negatives=10, finetune_epochs=1),
            evaluation=EvaluationStage(depth=20, resamples=200, ablation_products=6),
            places=_FEW_PLACES,
        ),
        Study(
            name="photos",
            summary="real photos: tested on SOP-85, then on Grocery Store",
            data=DataStage(
                source="photos",
                transfer="grocery",
                cache_size=320,
                rendered=RenderedSet(seed=5, families=24, size=224, difficulty=0.3, test_fraction=1 / 24),
            ),
            global_=replace(_SMALL_GLOBAL, views=3, dim=512, resize=288, size=288),
            reranker=replace(
                _SMALL_RERANKER,
                epochs=1,
                local_learning_rate=3e-4,
                finetune_epochs=1,
                finetune_learning_rate=3e-5,
            ),
            evaluation=EvaluationStage(depth=30, ablation_products=25),
        ),
        Study(
            name="sop",
            summary="Stanford Online Products whole, from ImageNet's weights with a frozen trunk: "
            "one modest GPU, or a night",
            data=DataStage(transfer="rendered", cache_size=224, rendered_transfer=_TRANSFER, hold_out=0.1),
            global_=replace(_SMALL_GLOBAL, families_meet=False),
            reranker=_SMALL_RERANKER,
            evaluation=EvaluationStage(depth=30, watch_test=False, ablation_products=400),
        ),
        Study(
            name="paper",
            summary="Stanford Online Products and Products-10k with the published recipe, one GPU",
        ),
        Study(
            name="rehearsal",
            summary="the recipe of `paper`, shrunk: rehearse it on a tiny folder of SOP's form "
            "before the days of the full run",
            data=DataStage(source="sop_form", cache_size=48),
            global_=GlobalStage(resize=48, size=42, epochs=2, batch=16, drops=(1,)),
            reranker=RerankerStage(epochs=2, triplets=16, negatives=10, drops=(1,), finetune_epochs=1),
            evaluation=EvaluationStage(depth=5, resamples=200, ablation_products=3),
            places=_FEW_PLACES,
        ),
    )
}


class UnknownProfile(ValueError):
    """There is no such profile."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: IPython asks for it, and the sentence says all."""
        return [f"ValueError: {self}"]


def find_profile(name: str) -> Study:
    """Return the study of a profile.

    Args:
        name: of the profile; "NAME@3" is the same with three seeds, whose data and results stand beside it.

    Raises:
        UnknownProfile: there is none, or no such number of seeds; a ValueError that lists the profiles.
    """
    plain, at, seeds = name.partition("@")
    if plain not in PROFILES:
        raise UnknownProfile(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    study = PROFILES[plain]
    if not at:
        return study
    if not re.fullmatch("[1-9][0-9]?", seeds):
        raise UnknownProfile(f"profile {name!r} asks for {seeds!r} seeds: choose a number, as in {plain}@3")
    summary = f"{study.summary}, {seeds} seed{'s' * (seeds != '1')}"
    return replace(study, name=name, summary=summary, seeds=tuple(range(int(seeds))))
