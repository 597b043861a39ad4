"""What the last run of a profile took, as a notebook says it at its beginning."""

import json

from waldo_utils.disk.artifacts import results_folder
from waldo_utils.study import Study


def sentence(study: Study, stem: str) -> str:
    """Return how long a notebook took in the last run of its profile, and its peak memory.

    Args:
        study: the profile.
        stem: of the notebook's file.

    Returns:
        One sentence; that it was not run yet, where `run.json` of the results is missing, damaged or without
        the notebook.
    """
    try:
        record = json.loads((results_folder(study) / "run.json").read_text(encoding="utf-8"))
        measured = record["stages"][stem]
        minutes, memory = float(measured["minutes"]), float(measured["peak_memory_gb"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"With the profile `{study.name}`: not run yet."
    took = "less than a minute" if minutes < 1 else f"{minutes:.1f} minutes"
    return f"With the profile `{study.name}` the last run took {took} and {memory:.1f} GB at most."
