"""The commands of this room: what can be typed, and nothing that takes time to import."""

import argparse
from collections.abc import Callable

from waldo_utils.study import find_profile


def add(command: Callable[..., argparse.ArgumentParser], add_profile: Callable[..., None]) -> None:
    """Add the commands, each by calling `command`; `add_profile` adds the option of that name."""
    train = command(
        "train-study", _train_study, "run the trainings of notebooks 02 and 03, in several processes if torchrun starts it",
        "By itself it is one process. `torchrun --nproc-per-node 4 -m waldo_utils train-study --profile paper` is four "
        "that share each batch, which gives the same training up to rounding; all must see one data folder. Killed, it "
        "goes on where it was, with any number of them.",
        "--profile paper",
    )  # fmt: skip
    add_profile(train, "whose trainings")
    train.add_argument("--only", choices=("global", "reranker"), help="the trainings of one notebook")


def _train_study(options: argparse.Namespace) -> int:
    from waldo_utils.engines import torchrun

    study = find_profile(options.profile)
    torchrun.run(study, (options.only,) if options.only else torchrun.PARTS)
    return 0
