"""The record of the last measured run, read at the top of a notebook."""

import json

import pytest

from waldo_utils.disk import artifacts
from waldo_utils.run import last_run, resources
from waldo_utils.study import find_profile

STUDY = find_profile("smoke")


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    path = artifacts.results_folder(STUDY) / resources.FILE
    path.parent.mkdir(parents=True)
    return path


def test_the_minutes_of_each_machine_are_told(record):
    rows = [
        {"processor": "A", "threads": 2, "minutes": {"02_train_global": 1.2, "09_results": 0.2}},
        {"processor": "B", "threads": 8, "minutes": {"02_train_global": 0.5}},
    ]
    record.write_text(json.dumps(rows))
    said = "With the profile `smoke` it took "
    assert last_run.sentence(STUDY, "02_train_global") == (
        f"{said}1.2 minutes (A, 2 threads); 0.5 minutes (B, 8 threads)."
    )
    assert last_run.sentence(STUDY, "09_results") == f"{said}0.2 minutes (A, 2 threads)."


@pytest.mark.parametrize("content", [None, "[]", '[{"minutes": {"01_prepare_data": 1.0}}]'])
def test_without_a_record_of_the_notebook_it_was_not_measured(record, content):
    if content is not None:
        record.write_text(content)
    assert last_run.sentence(STUDY, "02_train_global") == "With the profile `smoke`: not measured yet."


def test_a_damaged_record_is_refused_by_name(record):
    record.write_text("[{")
    with pytest.raises(ValueError, match="runs.json is damaged"):
        last_run.sentence(STUDY, "02_train_global")


def test_a_copy_that_ran_before_its_minutes_were_known_is_filled(record, tmp_path):
    copy = tmp_path / "02_train_global.ipynb"
    copy.write_text(json.dumps({"text": last_run.sentence(STUDY, copy.stem), "other": "stays"}))
    record.write_text(json.dumps([{"processor": "A", "threads": 2, "minutes": {copy.stem: 1.2}}]))
    last_run.fill(STUDY, copy)
    assert json.loads(copy.read_text()) == {"text": last_run.sentence(STUDY, copy.stem), "other": "stays"}
    assert "1.2 minutes" in copy.read_text()
