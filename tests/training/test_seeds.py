"""The seed that is shown."""

from dataclasses import replace

import pandas as pd

from waldo_utils.disk import artifacts
from waldo_utils.study import PROFILES
from waldo_utils.training.seeds import best_seed


def test_the_best_finetuned_epoch_on_validation_chooses_the_seed(monkeypatch):
    rows = [
        (0, "finetuned", 0.60), (0, "finetuned", 0.66), (0, "frozen", 0.99),
        (1, "finetuned", 0.70), (1, "finetuned", 0.50), (2, "finetuned", 0.70),
    ]  # fmt: skip
    log = pd.DataFrame(rows, columns=["seed", "stage", "validation R@1"])
    monkeypatch.setattr(artifacts, "load_frame", lambda study, name: log)
    assert best_seed(replace(PROFILES["mini"], seeds=(0, 1, 2))) == 1
