"""The package's rooms: imports run one way, and every room says what it is for."""

import ast
from pathlib import Path

import pytest

from waldo_utils.run.readme import ROOMS

PACKAGE = Path(__file__).resolve().parents[1] / "waldo_utils"
MOST_LINES, MOST_MODULES = 450, 12
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """Return the room of a module, its own name for one that stands beside the rooms."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(source: str) -> set[str]:
    """Return the rooms that a piece of code imports anything from, functions included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("waldo_utils.")}


def upward(room: str, source: str) -> set[str]:
    """Return the rooms above `room` that the code of one of its modules imports from."""
    allowed = {*ROOMS[ROOMS.index(room) :], "study", "ranks"}
    return rooms_imported(source) - allowed


def test_an_import_that_runs_upwards_is_seen():
    assert upward("models", "from waldo_utils.training import loop") == {"training"}
    assert upward("disk", "def f():\n    import waldo_utils.app.index") == {"app"}
    assert upward("training", "from waldo_utils.models.devices import device") == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_between_rooms_run_one_way(path):
    if room_of(path) in ROOMS:
        assert upward(room_of(path), path.read_text(encoding="utf-8")) == set()


def test_there_are_no_other_rooms_and_each_says_what_it_is_for():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ROOMS)
    for room in ROOMS:
        assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))


def test_rooms_modules_and_lines_stay_of_a_size_to_be_read():
    for room in set(ROOMS) - {"miniature"}:
        assert len(list((PACKAGE / room).glob("[!_]*.py"))) <= MOST_MODULES, room
    for path in MODULES:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= MOST_LINES, path
