"""One walker of folders: which files are photos, what is passed over and why, and names in any normal
form."""

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from waldo_utils.data.reading import looks_like_photo
from waldo_utils.disk.faults import shorten

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic",
    ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
# Of network stores, macOS, Windows, Linux: thumbnails and what was thrown away.
SYSTEM = (
    "@eadir", "@recycle", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "recycler", "recycled",
    "system volume information", "lost+found",
)  # fmt: skip
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
HIDDEN, OF_SYSTEM, NO_PHOTO = "hidden", "of the system", "no photos"
AGAIN, CLOSED = "links to folders that are searched already", "folders that cannot be opened"
NAMED = 3  # of each kind, in the line that tells what was passed over


@dataclass(frozen=True)
class Listing:
    """What a folder holds; paths relative to it, with slashes, sorted."""

    photos: list[str]
    passed: dict[str, list[str]] = field(default_factory=dict)  # why -> what was passed over

    def sentence(self) -> str:
        """Return in one line what was passed over; "" for nothing."""
        parts = []
        for why, paths in self.passed.items():
            more = ", ..." if len(paths) > NAMED else ""
            parts.append(f"{len(paths)} {why} ({', '.join(shorten(path) for path in paths[:NAMED])}{more})")
        return f"passed over: {'; '.join(parts)}" if parts else ""

    def require_photos(self, what: str) -> None:
        """Raise ValueError where there is no photo; says what was passed over. `what` names the place."""
        if not self.photos:
            told = self.sentence()
            raise ValueError(f"{what} holds no photo{f' ({told})' if told else ''}: choose another")


def walk(folder: Path, leave_out: Path | None = None) -> Listing:
    """Return the photos of a folder and of its sub-folders.

    A photo is told by its ending, in small letters or capitals, or else by how it begins. Hidden files and
    folders, those that systems make and files that are no photos are passed over. Links to folders are
    followed, each folder once and no link to one around `folder`.

    Args:
        folder: is searched.
        leave_out: a folder that is not searched and not told, perhaps within it.
    """
    photos: list[str] = []
    passed: dict[str, list[str]] = {}
    seen = {_identity(place) for place in (*folder.resolve().parents, folder)}
    if leave_out is not None and leave_out.exists():
        seen.add(_identity(leave_out))
    waiting, links = [folder], []
    while waiting or links:
        place = waiting.pop() if waiting else links.pop(0)
        is_link = place != folder and place.is_symlink()
        if is_link:
            if _identity(place) in seen:
                passed.setdefault(AGAIN, []).append(_below(folder, place))
                continue
            seen.add(_identity(place))
        try:
            with os.scandir(place) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError:
            passed.setdefault(CLOSED, []).append(_below(folder, place))
            continue
        for entry in entries:
            path, name = Path(entry.path), entry.name.lower()
            is_folder = _is_folder(entry)
            if is_folder and not entry.is_symlink() and _identity(path) in seen:
                continue  # what is left out
            if name.startswith("."):
                passed.setdefault(HIDDEN, []).append(_below(folder, path))
            elif name in (SYSTEM if is_folder else SYSTEM_FILES):
                passed.setdefault(OF_SYSTEM, []).append(_below(folder, path))
            elif is_folder and entry.is_symlink():
                links.append(path)
            elif is_folder:
                seen.add(_identity(path))
                waiting.append(path)
            elif path.suffix.lower() in SUFFIXES or path.is_file() and looks_like_photo(path):
                photos.append(_below(folder, path))
            else:
                passed.setdefault(NO_PHOTO, []).append(_below(folder, path))
    return Listing(sorted(photos), {why: sorted(paths) for why, paths in sorted(passed.items())})


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _identity(place: Path) -> tuple[int, int]:
    """Return what tells a folder from every other, by whatever path it is reached."""
    facts = place.stat()
    return facts.st_dev, facts.st_ino


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def on_disk(root: Path, paths: Iterable[str]) -> list[str]:
    """Return the paths of a list as the disk writes them.

    What is not there by its very name is looked for in the other normal form of Unicode (macOS), with slashes
    for backslashes (lists made by Windows), and last in other capitals, where only one name fits. What is not
    found stays as it is.

    Args:
        root: what the paths are relative to.
        paths: as a list writes them.
    """
    names: dict[Path, tuple[set[str], dict[str, list[str]]]] = {}
    return [path if os.path.lexists(root / path) else _found(root, path, names) for path in paths]


def listed(source: Path, paths: Iterable[str]) -> list[str]:
    """Return the paths of a list as the disk writes them.

    Args:
        source: the file of the list; its paths are relative to its folder.
        paths: as it writes them.

    Raises:
        ValueError: some are not there; counts them and names the first.
    """
    found = on_disk(source.parent, paths)
    gone = [path for path in found if not (source.parent / path).is_file()]
    if gone:
        raise ValueError(
            f"{len(gone)} photos of {source} are not there, the first {shorten(gone[0])}: correct the list"
        )
    return found


def _found(root: Path, path: str, names: dict[Path, tuple[set[str], dict[str, list[str]]]]) -> str:
    """Return a path as `on_disk` does; `names` remembers what folders hold."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    place = root
    for part in parts:
        if place not in names:
            try:
                there = sorted(os.listdir(place))
            except OSError:
                return path
            alike: dict[str, list[str]] = {}
            for name in there:
                for key in {_normal(name), _normal(name).casefold()}:
                    alike.setdefault(key, []).append(name)
            names[place] = (set(there), alike)
        there, alike = names[place]
        fitting = (
            [part] if part in there else alike.get(_normal(part)) or alike.get(_normal(part).casefold(), [])
        )
        if len(fitting) != 1:
            return path
        place = place / fitting[0]
    return place.relative_to(root).as_posix() if parts else path


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
