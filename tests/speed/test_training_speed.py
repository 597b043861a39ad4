"""The parts of a training step are timed, and its memory is measured in a process of its own."""

import itertools
from dataclasses import replace

import pytest
import torch

from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.speed import training_speed
from waldo_utils.study import PROFILES


def test_the_shares_of_a_step_add_up_and_nothing_is_trained():
    torch.manual_seed(0)
    model, reranker = ImageModel("efficientnet_lite0"), RerankingTransformer(layers=2, feedforward=32)
    before = [parameter.detach().clone() for parameter in (*model.parameters(), *reranker.parameters())]
    photos = list(torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8))
    ticks = itertools.count()
    times = training_speed.step_times(
        model,
        reranker,
        photos,
        replace(PROFILES["smoke"].global_, size=32, batch=4),
        replace(PROFILES["smoke"].reranker, triplets=2),
        rounds=1,
        clock=lambda: float(next(ticks) ** 2),  # looks 0 to 5 a stage: 1, 5 and 9 seconds in the first
    )
    assert times.stage.tolist() == ["CO", "frozen", "finetuned"]
    first = times.iloc[0]
    assert first["seconds per step"] == 9
    assert first[["network", "augmentation", "rest"]].tolist() == pytest.approx([5 / 9, 1 / 9, 3 / 9])
    after = [*model.parameters(), *reranker.parameters()]
    assert all(parameter.equal(start) for parameter, start in zip(after, before, strict=True))


def test_gradient_caching_needs_less_memory():
    settings = replace(PROFILES["smoke"].global_, size=64)
    table = training_speed.batch_memory(settings, [128], micro_batch=16)
    whole, cached = table.GB
    assert table.gradients.tolist() == ["whole batch", "cached, 16 at once"]
    assert 0 < cached < 0.7 * whole
