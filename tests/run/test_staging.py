"""What a notebook writes comes to the results when it is done."""

from waldo_utils.run import staging


def fill(folder, **contents):
    for name, text in contents.items():
        path = folder / "tables" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_is_written_or_touched_is_brought_and_what_is_only_there_stays(tmp_path):
    results, folder = tmp_path / "results", tmp_path / "unfinished" / "smoke"
    fill(results, early="1", kept="2", late="3")
    (results / "runs.json").write_text("[]")
    fill(folder, left="of a run that failed")

    assert staging.begin(folder, results) == folder
    assert sorted(path.name for path in folder.rglob("*.*")) == [
        "early.csv", "kept.csv", "late.csv", "runs.json"
    ]  # fmt: skip
    fill(folder, late="4", new="5")
    (folder / "tables" / "kept.csv").touch()  # clock times of an earlier run, which count as written
    (folder / "tables" / "half.12.partial.csv").write_text("x")
    before = (results / "tables" / "early.csv").stat().st_mtime_ns

    assert staging.finish(folder, results) == [f"tables/{name}.csv" for name in ("kept", "late", "new")]
    tables = {path.name: path.read_text() for path in (results / "tables").iterdir()}
    assert tables == {"early.csv": "1", "kept.csv": "2", "late.csv": "4", "new.csv": "5"}
    assert (results / "tables" / "early.csv").stat().st_mtime_ns == before
    assert not folder.exists()
