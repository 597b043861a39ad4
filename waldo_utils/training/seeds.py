"""Which of the study's trainings is shown where one must do."""

from waldo_utils.disk import artifacts
from waldo_utils.study import Study


def best_seed(study: Study) -> int:
    """Return the seed whose finetuned reranker did best on validation products; the first of them at a tie.

    Raises:
        FileNotFoundError, ValueError: the log of notebook 03 is missing or was made with other settings.
    """
    log = artifacts.load_frame(study, "reranker/log")
    recall = log[log.stage == "finetuned"].groupby("seed")["validation R@1"].max()
    return max(study.seeds, key=recall.get)
