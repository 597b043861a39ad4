"""What a run of a whole profile took: minutes and peak memory, one row per machine that measured it.

A row is kept until it is measured anew on purpose, as the speed tables are: times differ with each run, and a
rerun with the same results leaves nothing to commit.
"""

import json
import platform
from pathlib import Path

import pandas as pd

from waldo_utils.disk.files import write_atomically

FILE = "runs.json"
MACHINE = ("processor", "cores", "threads", "device", "torch")  # what makes it another machine
MEASURED = ("speed_*", "search_speed")  # tables of clock times


def keep(results: Path, minutes: dict[str, float], peak_gb: float) -> None:
    """Write what a run took beside its results, unless this machine has a row there.

    Args:
        results: the folder of a profile's results.
        minutes: of each notebook; all of them ran.
        peak_gb: memory of the notebook that needed most.
    """
    from waldo_utils.speed.benchmark import machine

    facts = machine()
    row = {key: facts[key] for key in MACHINE} | {
        "python": platform.python_version(),
        "date": str(facts["date"])[:10],
        "minutes": {stem: round(value, 1) for stem, value in minutes.items()},
        "peak GB": round(peak_gb, 1),
    }
    others = rows(results)
    if not any(_same_machine(row, other) for other in others):
        _write(results, [*others, row])


def forget(results: Path) -> None:
    """Remove this machine's row and the profile's tables of clock times, so that a run measures them anew."""
    from waldo_utils.speed.benchmark import machine

    facts = machine()
    _write(results, [row for row in rows(results) if not _same_machine(row, facts)])
    for pattern in MEASURED:
        for path in (results / "tables").glob(f"{pattern}.csv"):
            path.unlink()


def table(results: Path) -> pd.DataFrame:
    """Return one row per machine that ran the whole profile: what it is, `minutes` in all and `peak GB`."""
    total = [row | {"minutes": sum(row["minutes"].values())} for row in rows(results)]
    return pd.DataFrame(total, columns=[*MACHINE, "python", "date", "minutes", "peak GB"])


def _same_machine(row: dict, other: dict) -> bool:
    return all(row[key] == other[key] for key in MACHINE)


def rows(results: Path) -> list[dict]:
    """Return what `keep` has written: one row per machine, `minutes` by notebook.

    Raises:
        ValueError: the record is damaged.
    """
    path = results / FILE
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove it and measure again") from None


def _write(results: Path, rows: list[dict]) -> None:
    text = json.dumps(rows, indent=1) + "\n"
    write_atomically(results / FILE, lambda partial: partial.write_text(text, encoding="utf-8"))
