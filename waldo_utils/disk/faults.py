"""Faults told in one message: of many files the first by name, the rest counted, all of them in a list on
disk."""

import csv
import errno
from dataclasses import dataclass
from pathlib import Path

from waldo_utils.disk.files import write_atomically

SHOWN = 5  # files of each kind that a message names
LONGEST = 120  # characters of a name in a message
REMEDIES = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.EACCES: "allow it, or choose another place",
    errno.EPERM: "allow it, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOENT: "correct the path",
    errno.ENOTDIR: "correct the path",
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "replace the link by the file",
    errno.EEXIST: "choose another name, or remove what is there",
    errno.EMFILE: "close other programs, or raise the limit of open files",
    errno.EIO: "check the disk",
}


@dataclass(frozen=True)
class Fault:
    """Why one photo cannot be used."""

    path: str
    kind: str  # ends the sentence "these photos ..."
    remedy: str
    reason: str = ""  # where the kind does not say it all


def refuse(faults: list[Fault], listing: Path | None = None) -> None:
    """Stop where there are faults, with one message for all of them.

    Args:
        faults: perhaps none; then a list of an earlier try is removed.
        listing: a `.csv` that receives all of them, one a row: `path`, `fault`, `reason`; None: no list is
            written.

    Raises:
        ValueError: there are faults; names the first five of each kind, counts all, and says where the list
            is.
    """
    if not faults:
        if listing:
            listing.unlink(missing_ok=True)
        return
    kinds: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        kinds.setdefault((fault.kind, fault.remedy), []).append(shorten(fault.path))
    parts = []
    for (kind, remedy), names in kinds.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        parts.append(f"{len(names)} photos {kind}: {', '.join(names[:SHOWN])}{more}; {remedy}")
    message = ". ".join(parts)
    if listing:

        def write(partial: Path) -> None:
            with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as out:
                rows = csv.writer(out)
                rows.writerow(["path", "fault", "reason"])
                rows.writerows((fault.path, fault.kind, fault.reason) for fault in faults)

        try:
            write_atomically(listing, write)
            message += f". All {len(faults)} are listed in {listing}"
        except OSError as error:
            message += f". The list could not be written: {explain(error)}"
    raise ValueError(message)


def shorten(text: str) -> str:
    """Return a text for a message: at most 120 characters, and nothing that a terminal would act on."""
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 20]}...{text[-17:]}"
    return printable(text)


def printable(text: str) -> str:
    """Return a text in one line, control characters and broken names escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def explain(error: OSError) -> str:
    """Return the system's error in one line with what to do; errors of our own say that themselves."""
    remedy = REMEDIES.get(error.errno)
    if remedy is None or error.strerror is None:
        return printable(str(error))
    places = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return printable(f"{' -> '.join(places)}: " * bool(places) + f"{error.strerror}: {remedy}")
