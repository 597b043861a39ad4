"""What this machine does a second with the sizes of a profile: photos decoded, seen, trained on, pairs
scored."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image

from waldo_utils.data.reading import read_photo, shrink
from waldo_utils.data.transforms import TestTransform, TrainTransform
from waldo_utils.models import starting_weights
from waldo_utils.models.devices import device
from waldo_utils.models.inference import features_of, trunk_of
from waldo_utils.retrieval.exact import nearest_neighbors
from waldo_utils.retrieval.reranking import match_maps, pair_scores, rerank_scores
from waldo_utils.retrieval.trunk_maps import TrunkMaps
from waldo_utils.speed import training_speed
from waldo_utils.speed.timing import peak_memory, synchronize
from waldo_utils.study import GlobalStage, RerankerStage, Study

SECONDS = 2.0  # that each rate is measured for
# The most of a training step that is measured: a photo costs as much in a larger one.
BATCH, TRIPLETS = 48, 16


@dataclass(frozen=True)
class Machine:
    """What this machine does with a profile: `rates` of each kind of work a second, bytes, and `device`."""

    rates: dict[str, float]
    photo_bytes: float  # of a decoded photo
    map_bytes: float  # of one view of the trunk's maps
    local_bytes: float  # of a photo's local features
    step_bytes: float  # that a training step needs
    base_bytes: float  # that a process holds before it has any photo
    device: str


def measure(study: Study, seconds: float = SECONDS) -> Machine:
    """Measure this machine with the sizes of a profile, on photos that are drawn and weights at random.

    Args:
        study: the profile.
        seconds: that each rate is measured for, after one call to warm up.
    """
    image = replace(study.global_, batch=min(study.global_.batch, BATCH), micro_batch=None)
    recipe = replace(study.reranker, triplets=min(study.reranker.triplets, TRIPLETS))
    torch.manual_seed(0)
    model = starting_weights.image_model(replace(image, start="random")).to(device()).eval()
    model.to(memory_format=torch.channels_last)
    reranker = starting_weights.reranker(recipe, image.dim).to(device()).eval()
    rng, base = np.random.default_rng(0), float(psutil.Process().memory_info().rss)

    picture = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((640, 480))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    small = np.asarray(shrink(read_photo(file, "drawn"), study.data.cache_size))
    photos = [torch.from_numpy(small.copy()).permute(2, 0, 1)] * 32
    plain, crop = (
        TestTransform(image.resize, image.size),
        TrainTransform(image.size, image.crop_scale, image.flip),
    )
    generator = torch.Generator().manual_seed(0)

    def views() -> torch.Tensor:
        return torch.stack([plain(photo, generator) for photo in photos]).to(device())

    def crops() -> torch.Tensor:
        return torch.stack([crop(photo, generator) for photo in photos]).to(device())

    trunk, whole = trunk_of(model), features_of(model)
    inputs, kept, map_bytes = photos, views(), 0.0
    if image.views:
        kept = trunk(kept)
        map_bytes = 2.0 * kept[0].numel()
        maps = np.repeat(kept.to(torch.float16).cpu().numpy()[:, None], 2, axis=1)
        inputs = TrunkMaps(maps)
    local = whole(kept)[1].to(torch.float16).cpu().numpy()
    many = rng.normal(size=(2000, 128)).astype(np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    pairs = rng.integers(0, len(local), (len(local), 12))

    calls: dict[str, tuple[Callable[[], object], float]] = {
        "decode": (lambda: shrink(read_photo(file, "drawn"), study.data.cache_size), 1),
        "tail": (lambda: whole(kept), len(photos)),
        "whole": (lambda: whole(views()), len(photos)),
        "pairs": (lambda: rerank_scores(reranker, local, local, pairs), pairs.size),
        "matched pairs": (lambda: _match(local, pairs), pairs.size),
        "render": (_renderer(study), 1),
        "similarities": (lambda: nearest_neighbors(many, 50), len(many) ** 2),
    }
    if image.views:
        calls["trunk"] = (lambda: trunk(crops()), len(photos))
    else:
        calls["tail"] = calls["whole"]
    rates = {name: rate(call, count, seconds) for name, (call, count) in calls.items()}
    rates["render"] *= psutil.cpu_count() or 1  # photos are rendered by one process a core
    step = training_speed.step_times(model, reranker, inputs, image, recipe, rounds=2)
    rates |= _photos_a_second(image, recipe, step).add_prefix("train ").to_dict()
    rates["train fresh"] = rates["train frozen"]
    if image.views:
        step = training_speed.step_times(model, reranker, photos, image, recipe, rounds=1)
        rates["train fresh"] = _photos_a_second(image, recipe, step)["frozen"]
    batch = kept.repeat(-(-image.batch // len(kept)), 1, 1, 1)[: image.batch]
    labels = torch.arange(len(batch)) // image.photos_per_product
    memory = peak_memory(lambda: training_speed.global_gradients(model, batch, labels, image))
    memory *= (study.global_.micro_batch or study.global_.batch) / len(batch)
    return Machine(
        rates, float(small.size), map_bytes, float(local[0].nbytes), memory, base,
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{psutil.cpu_count()} cores",
    )  # fmt: skip


def rate(call: Callable[[], object], count: float, seconds: float) -> float:
    """Return how many a second a call does that does `count` at once: called once to warm up, then for so
    many seconds, at least once."""
    call()
    calls, begin = 0, time.perf_counter()
    while not calls or time.perf_counter() - begin < seconds:
        call()
        synchronize()
        calls += 1
    return calls * count / (time.perf_counter() - begin)


def _match(local: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return pair_scores(match_maps, local, local, pairs)


def _renderer(study: Study) -> Callable[[], object]:
    """Return a call that renders a photo, as large as the profile's rendered ones."""
    from waldo_utils.miniature.draws import Draws
    from waldo_utils.miniature.families import family
    from waldo_utils.miniature.photo import photograph

    drawn = study.data.rendered or study.data.rendered_transfer or study.places.test
    models = [family(0, category, 0, 1)[0] for category in ("mug", "chair", "kettle")]
    number = iter(range(10**9))

    def call() -> None:
        i = next(number)
        photograph(models[i % len(models)], Draws(f"photo{i}"), drawn.size, drawn.difficulty)

    return call


def _photos_a_second(image: GlobalStage, recipe: RerankerStage, steps: pd.DataFrame) -> pd.Series:
    """Return stage -> photos a second, of what `training_speed.step_times` measured."""
    batch = 2 * recipe.group * recipe.groups if recipe.group else 3 * recipe.triplets
    photos = steps.stage.map({"CO": image.batch, "frozen": batch, "finetuned": batch})
    return pd.Series((photos / steps["seconds per step"]).to_numpy(), index=steps.stage)
