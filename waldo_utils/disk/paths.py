"""Paths as users give them: one place where they are understood."""

from pathlib import Path


def given(text: str | Path) -> Path:
    """Return a path that a user gave: `~` is the user's home, as the shell writes it only for a word of its
    own and not within `--output=~/x`; all else is relative to where the user stands.

    Raises:
        ValueError: it names the home of a user whom the system does not know.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text}: {error}") from None


def given_or_address(text: str) -> str:
    """Return what a user gave for an engine: an address (one with `://`, or `:memory:`) as it is, else the
    path of a folder; raises as `given`."""
    return text if "://" in text or text == ":memory:" else str(given(text))
