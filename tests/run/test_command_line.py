"""What can be typed: every command explains itself, and every command keeps the memory of freed tensors."""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from waldo_utils import __main__
from waldo_utils.__main__ import main
from waldo_utils.run import kernels
from waldo_utils.study import ROOT

COMMANDS = [
    "run",
    "plan",
    "status",
    "profiles",
    "evaluate",
    "readme",
    "index",
    "search",
    "train",
    "export",
    "benchmark",
    "demo",
    "train-study",
    "publish",
]
# One word per thing, whatever the command.
WORDS = {"FOLDER", "FILE", "PHOTO", "NAME", "NAME=VALUE", "NOTEBOOK", "N", "X,Y,W,H", "URL", "I/N", "ADDRESS"}


def parsers():
    (actions,) = (a for a in __main__._parser()._actions if isinstance(a, argparse._SubParsersAction))
    return actions.choices


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_gives_an_example_that_can_be_typed(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    parser = parsers()[name]
    assert len(parser.description.split()) > 6
    assert max(map(len, text.splitlines())) <= 110
    example = re.search(r"\nexample:\n  python -m waldo_utils (.+)\n", text)[1].split()
    options = __main__._parser().parse_args(example)  # exits where it cannot be read
    assert options.function is parser.get_default("function")
    metavars = {action.metavar for action in parser._actions if action.metavar}
    assert metavars <= WORDS


def test_all_commands_are_tested_and_the_version_is_told(capsys):
    assert set(parsers()) == set(COMMANDS)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert re.fullmatch(r"waldo [0-9]+\.[0-9.]+\n", capsys.readouterr().out)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"waldo": "waldo_utils.__main__:main"}


def test_help_names_the_command_as_it_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/waldo"])
    assert __main__._parser().prog == "waldo"


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    "typed, completed",
    [
        ("waldo sea", "search"),
        ("waldo search --ma", "--many"),
        ("waldo index my_", "my_photos"),
        ("waldo index my_photos --output my_", "my_photos"),
    ],
)
def test_bash_completes_commands_options_and_paths(typed, completed, tmp_path, capsys):
    (tmp_path / "my_photos").mkdir()
    with pytest.raises(SystemExit) as stopped:
        main(["--print-completion", "bash"])
    assert stopped.value.code == 0
    ask = (
        f"COMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        'read -r _ _ _ _ function _ <<< "$(complete -p waldo)"\n$function; echo ${COMPREPLY[@]}'
    )
    command = ["bash", "--norc", "-c", f"{capsys.readouterr().out}\n{ask}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.stdout == f"{completed}\n", ended.stderr


def test_a_photo_that_is_not_there_is_said_so(capsys, tmp_path):
    assert main(["search", str(tmp_path / "nosuch.jpg")]) == 2
    assert capsys.readouterr().err == f"error: there is no photo {tmp_path}/nosuch.jpg: correct the path\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_a_command_and_what_it_starts_keep_freed_memory():
    count = """
import resource, numpy as np
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**22)
before = faults()
for _ in range(20):
    np.ones(2**22)  # 32 MiB, freed at once
print(faults() - before)
"""
    keep = "from waldo_utils.run import kernels; kernels.keep_memory()"
    start = f"{keep}; import subprocess, sys; subprocess.run([sys.executable, '-c', {count!r}])"
    clean = {key: value for key, value in os.environ.items() if key not in kernels.KEEP_MEMORY}
    plain, kept, started = (
        int(
            subprocess.run(
                [sys.executable, "-c", code],
                env=clean | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for code in (count, f"{keep}\n{count}", start)
    )
    assert kept < plain / 5
    assert started < plain / 5
