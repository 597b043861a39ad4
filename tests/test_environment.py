"""Lock, constraints, conda file and project agree, and hold no addresses."""

import re
import tomllib

import pytest
import yaml

from waldo_utils.study import ROOT

LOCK = (ROOT / "requirements.lock").read_text()


def pins(text):
    return set(re.findall(r"^([A-Za-z0-9_.-]+==[^ ;\\\n]+)", text, flags=re.M))


def test_constraints_are_the_versions_of_the_lock():
    assert pins((ROOT / "constraints.txt").read_text()) == pins(LOCK)
    assert len(pins(LOCK)) > 50


def test_conda_installs_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == ["-c constraints.txt", "-e .[demo,test]"]
    assert [entry for entry in environment["dependencies"] if isinstance(entry, str)] == [
        "python=3.12",
        "pip",
    ]


def test_every_direct_dependency_is_locked_with_hashes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["demo"],
        *project["optional-dependencies"]["test"],
    ]
    locked = {pin.split("==")[0].lower().replace("_", "-") for pin in pins(LOCK)}
    assert {re.match(r"[A-Za-z0-9_.-]+", entry)[0].lower() for entry in wanted} <= locked
    assert LOCK.count("--hash=sha256:") > len(locked)


@pytest.mark.parametrize("name", ["requirements.lock", "constraints.txt", "environment.yml", "Makefile"])
def test_no_download_address_is_written_down(name):
    assert not re.search(r"https?://|index-url", (ROOT / name).read_text().replace("--no-emit-index-url", ""))
