"""What the last measured run of a profile took, as a notebook says it at its beginning."""

from pathlib import Path

from waldo_utils.disk.artifacts import results_folder
from waldo_utils.disk.files import write_atomically
from waldo_utils.run import resources
from waldo_utils.study import Study


def sentence(study: Study, stem: str) -> str:
    """Return how long a notebook took in each measured run of its profile.

    Args:
        study: the profile.
        stem: of the notebook's file.

    Returns:
        One sentence; that it was not measured yet, where the results hold no record of a run with the
        notebook.
    """
    rows = [row for row in resources.rows(results_folder(study)) if stem in row["minutes"]]
    if not rows:
        return _unmeasured(study)
    took = "; ".join(
        f"{row['minutes'][stem]:.1f} minutes ({row['processor']}, {row['threads']} threads)" for row in rows
    )
    return f"With the profile `{study.name}` it took {took}."


def fill(study: Study, executed: Path) -> None:
    """Let a notebook that ran before its minutes were known say them.

    Args:
        study: the profile.
        executed: its executed copy, changed in place.
    """
    text = executed.read_text(encoding="utf-8")
    told = text.replace(_unmeasured(study), sentence(study, executed.stem))
    if told != text:
        write_atomically(executed, lambda partial: partial.write_text(told, encoding="utf-8"))


def _unmeasured(study: Study) -> str:
    return f"With the profile `{study.name}`: not measured yet."
