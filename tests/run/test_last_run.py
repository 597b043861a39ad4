"""The record of the last run, read at the top of a notebook."""

import json

import pytest

from waldo_utils.disk import artifacts
from waldo_utils.run import last_run
from waldo_utils.study import find_profile

STUDY = find_profile("smoke")


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    path = artifacts.results_folder(STUDY) / "run.json"
    path.parent.mkdir(parents=True)
    return path


def test_minutes_and_memory_of_the_last_run(record):
    stages = {
        "02_train_global": {"minutes": 1.24, "peak_memory_gb": 2.14},
        "08_results": {"minutes": 0.2, "peak_memory_gb": 0.4},
    }
    record.write_text(json.dumps({"machine": {}, "stages": stages}))
    assert last_run.sentence(STUDY, "02_train_global").endswith("took 1.2 minutes and 2.1 GB at most.")
    assert last_run.sentence(STUDY, "08_results").endswith("took less than a minute and 0.4 GB at most.")


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"stages": {}}', '{"stages": {"02_train_global": {"minutes": null}}}']
)
def test_without_a_record_it_was_not_run_yet(record, content):
    if content is not None:
        record.write_text(content)
    assert last_run.sentence(STUDY, "02_train_global") == "With the profile `smoke`: not run yet."
