"""What files hold, by hash, looked at once: a second look costs no more than asking for sizes and times."""

import json
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from waldo_utils.disk.files import sha256, write_atomically

Facts = dict[str, list]  # name -> size in bytes, time of change in nanoseconds, SHA-256 or why there is none


def look(files: dict[str, Path], memo: Path) -> Facts:
    """Return size, time and SHA-256 of files; hashes come from the memo where size and time are as there.

    Args:
        files: name -> file, perhaps absent.
        memo: what `keep` has written at an earlier look; it may be absent, or damaged.
    """
    known: Facts = {}
    with suppress(OSError, ValueError):
        read = json.loads(memo.read_text(encoding="utf-8"))
        known = read if isinstance(read, dict) else {}
    facts: Facts = {}
    for name, path in tqdm(files.items(), desc="look for changes", unit="file", leave=False, delay=2):
        try:
            status = path.stat()
            before = known.get(name)
            if isinstance(before, list) and before[:2] == [status.st_size, status.st_mtime_ns]:
                facts[name] = before
            else:
                facts[name] = [status.st_size, status.st_mtime_ns, sha256(path)]
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
            facts[name] = [0, 0, f"none: {type(error).__name__}"]
    return facts


def keep(facts: Facts, memo: Path) -> None:
    """Write what `look` found beside what depends on it, if that is possible: without it a look only takes
    longer."""
    text = json.dumps(facts)
    with suppress(OSError):
        if not memo.exists() or memo.read_bytes() != text.encode():
            write_atomically(memo, lambda partial: partial.write_text(text, encoding="utf-8"))
