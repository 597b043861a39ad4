"""Where the system or the file system lacks something: no locks, no fsync, no fcntl, another locale."""

import ast
import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from waldo_utils.__main__ import _parser, main
from waldo_utils.disk import files, locks, paths
from waldo_utils.study import ROOT

PACKAGE = ROOT / "waldo_utils"


@pytest.fixture(autouse=True)
def nothing_said():
    files.say_once.cache_clear()


def refusing(number, plain=None, refuse=lambda *given: True):
    def call(*given):
        if refuse(*given):
            raise OSError(number, os.strerror(number))
        return plain(*given)

    return call


# ---------------------------------------------------------------- locks


@pytest.fixture(params=["no flock", "no fcntl"])
def lockless(request, monkeypatch):
    """A file system without locks, or a system without the module for them."""
    if request.param == "no fcntl":
        monkeypatch.setattr(locks, "fcntl", None)
        monkeypatch.delattr(os, "pwrite")
    else:
        if locks.fcntl is None:
            pytest.skip("a system without flock")
        monkeypatch.setattr(locks.fcntl, "flock", refusing(errno.ENOLCK))


def test_without_locks_a_second_run_is_kept_out_all_the_same(lockless, tmp_path, capfd):
    for _ in range(2):
        with locks.hold(tmp_path / ".lock") as descriptor:
            os.fstat(descriptor)
            with pytest.raises(
                locks.Held, match=rf"process {os.getpid()} on .*: wait for it, or stop it .if it is gone, rem"
            ):
                with locks.hold(tmp_path / ".lock"):
                    pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert capfd.readouterr().err.count("knows no locks") == 1


def test_without_locks_a_killed_holder_is_noticed(lockless, tmp_path):
    claim = tmp_path / ".lock.held"
    claim.write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname(), "since": "yesterday"}))
    with locks.hold(tmp_path / ".lock"):
        assert json.loads(claim.read_text())["pid"] == os.getpid()
    claim.write_text(json.dumps({"pid": 1, "host": "another", "since": "yesterday"}))
    with pytest.raises(locks.Held, match="process 1 on another .* since yesterday"):
        with locks.hold(tmp_path / ".lock"):
            pass


def test_other_faults_of_a_lock_are_not_passed_over(tmp_path, monkeypatch):
    if locks.fcntl is None:
        pytest.skip("a system without flock")
    monkeypatch.setattr(locks.fcntl, "flock", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        with locks.hold(tmp_path / ".lock"):
            pass


# ---------------------------------------------------------------- fsync


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_fsync_is_written_with_a_word(tmp_path, monkeypatch, capfd, number):
    monkeypatch.setattr(os, "fsync", refusing(number))
    for name in "ab":
        files.write_atomically(tmp_path / name, lambda partial: partial.write_text("x", encoding="utf-8"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert capfd.readouterr().err.count("no fsync") == 1


def test_a_folder_that_cannot_be_opened_is_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", refusing(errno.EACCES, os.open, lambda place, *given: place == tmp_path))
    files.write_atomically(tmp_path / "a", lambda partial: partial.write_text("x", encoding="utf-8"))
    assert (tmp_path / "a").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_is_not_passed_over(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", refusing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        files.write_atomically(tmp_path / "a", lambda partial: partial.write_text("x", encoding="utf-8"))
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- paths of users


def test_a_tilde_is_the_home_wherever_a_path_is_given(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert paths.given("~/x") == tmp_path / "x"
    assert paths.given("a~b/~") == Path("a~b/~")
    with pytest.raises(ValueError, match="~nobody-of-this-name/x"):
        paths.given("~nobody-of-this-name/x")
    (tmp_path / "photos").mkdir()
    assert main(["index", "~/photos", "--output=~/x"]) == 2
    assert f"{tmp_path / 'photos'} holds no photo" in capsys.readouterr().err
    assert main(["search", "~/a.jpg", "--index", "~/photos"]) == 2
    assert str(tmp_path / "a.jpg") in capsys.readouterr().err
    assert not {"~", "x"} & {path.name for path in tmp_path.iterdir()}


def test_an_address_is_no_path_and_every_option_knows_which_it_takes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.given_or_address("~/q") == str(tmp_path / "q")
    for address in ("http://localhost:6333", "ftp://~", ":memory:"):
        assert paths.given_or_address(address) == address
    (commands,) = (action.choices for action in _parser()._actions if isinstance(action.choices, dict))
    kinds = {"FOLDER": paths.given, "FILE": paths.given, "PHOTO": paths.given, "URL": paths.given_or_address}
    seen = set()
    for command, parser in commands.items():
        for action in parser._actions:
            if action.metavar in kinds:
                assert action.type is kinds[action.metavar], (command, action.dest)
                seen.add(action.metavar)
    assert seen == set(kinds)


# ---------------------------------------------------------------- any system, any locale

MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def room(path):
    return path.relative_to(PACKAGE).parts[0]


HIDDEN = """
import importlib, os, sys
import psutil, torch  # their own ways
for name in ("resource", "fcntl"):
    sys.modules[name] = None
for name in ("pwrite", "pread"):
    if hasattr(os, name):
        delattr(os, name)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_module_is_imported_where_modules_of_posix_lack():
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.stem not in ("__main__", "page", "demo_pictures", "latency")
    ]
    command = [sys.executable, "-c", HIDDEN, *names]
    ended = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def unnamed(source):
    """Return the lines of a piece of code that open a text without naming its encoding."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("read_text", "write_text"):
            found.append(node.lineno)
        elif name == "open" and not (
            isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("os", "Image")
        ):
            constants = [
                part
                for argument in node.args
                for part in ast.walk(argument)
                if isinstance(part, ast.Constant)
            ]
            modes = [part.value for part in constants if isinstance(part.value, str)]
            if not any("b" in mode for mode in modes):
                found.append(node.lineno)
    return found


def test_a_text_without_its_encoding_is_seen():
    assert unnamed('a.read_text()\nopen("x", "w")\na.open()') == [1, 2, 3]
    assert unnamed('a.read_text(encoding="utf-8")\na.open("rb")\nImage.open(a)\nos.open(a)') == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_text_names_its_encoding(path):
    assert unnamed(path.read_text(encoding="utf-8")) == []


FORBIDDEN = set('<>:"|?*\\') | {chr(i) for i in range(32)}
RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{i}" for name in ("com", "lpt") for i in range(1, 10))}


def test_no_name_in_the_project_is_one_that_windows_forbids():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git here")
    names = [name for name in listed.stdout.split("\0") if name]
    assert names
    for name in names:
        for part in name.split("/"):
            assert not FORBIDDEN & set(part), name
            assert part.split(".")[0].lower() not in RESERVED, name
            assert not part.endswith((" ", ".")), name
    assert len({name.casefold() for name in names}) == len(names)
