"""Weights between start and end, and the share that validation chooses."""

import torch
from torch import nn

from waldo_utils.training import mixing


def test_a_mixture_lies_between_and_keeps_counters_of_the_end():
    start = {"w": torch.zeros(2), "steps": torch.tensor(3)}
    end = {"w": torch.tensor([4.0, 8.0]), "steps": torch.tensor(9)}
    mixture = mixing.mixed(start, end, 0.25)
    assert mixture["w"].tolist() == [1.0, 2.0]
    assert mixture["steps"] == 9


def test_the_share_that_validation_likes_best_is_loaded_and_of_equals_the_most_trained():
    model = nn.Linear(1, 1, bias=False)
    start, end = {"weight": torch.zeros(1, 1)}, {"weight": torch.ones(1, 1)}
    recall = {0.25: 0.5, 0.5: 0.7, 0.75: 0.7, 1.0: 0.6}
    table = mixing.choose_share(model, start, end, lambda: recall[model.weight.item()])
    assert model.weight.item() == 0.75
    assert table.share[table.chosen].tolist() == [0.75]
    assert table["validation R@1"].tolist() == list(recall.values())
