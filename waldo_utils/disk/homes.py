"""Where the project keeps things: in its checkout, or, where only the package is installed, in the user's
data folder."""

import os
import sys
from pathlib import Path

from waldo_utils.study import ROOT

# Variable of a run's kernels: the folder, named after the profile, that stands for its results until the
# notebook is done.
UNFINISHED = "WALDO_UNFINISHED_RESULTS"


def is_checkout(root: Path = ROOT) -> bool:
    """Return whether the package lies beside the study's notebooks."""
    return any((root / "notebooks").glob("01_*.ipynb"))


def work_folder(root: Path = ROOT) -> Path:
    """Return the folder below which `data` and `results` are kept."""
    if is_checkout(root):
        return root
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home
        return Path.cwd() / "waldo"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "waldo"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "waldo"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "waldo"


def require_checkout(what: str, root: Path = ROOT) -> None:
    """Refuse what needs the notebooks where only the package is installed.

    Raises:
        FileNotFoundError: says what to do.
    """
    if not is_checkout(root):
        raise FileNotFoundError(
            f"`{what}` needs the study's notebooks, which lie in its repository and not in the installed"
            " package: clone the repository and call it there (`make setup` installs it in place); index,"
            " search and evaluate work without"
        )


WORK = work_folder()
