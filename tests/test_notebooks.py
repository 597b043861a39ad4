"""The whole study on the smallest profile, through the real runner: figures, not only exit codes."""

import os
import random
import shutil
import subprocess
import sys

import nbclient
import nbformat
import pandas as pd
import pytest
import torture

from waldo_utils.disk.artifacts import data_folder, load_table, results_folder
from waldo_utils.evaluation import reported
from waldo_utils.experiments import methods
from waldo_utils.run import pipeline
from waldo_utils.speed import benchmark
from waldo_utils.study import PROFILES, ROOT

STUDY = PROFILES["smoke"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module", autouse=True)
def smoke_study():
    assert pipeline.run(STUDY) == 0


def test_the_main_table_has_the_chain_and_one_recall_at_100_per_shortlist():
    main = load_table(STUDY, "main")
    assert main.method.tolist() == list(methods.METHODS)
    assert set(reported.REPORTED.method) <= set(main.method)
    assert main[main.method.str.startswith("CO +")]["R@100"].nunique() == 1
    assert (main["R@1"] <= main["R@10"]).all()
    assert (main["R@10"] <= main["R@100"]).all()
    assert main.queries.unique().tolist() == [240]
    for name in ("R@1", "R@10", "R@100", "MAP@R", "mAP@100"):
        assert (main[f"{name} low"] <= main[name]).all()
        assert (main[name] <= main[f"{name} high"]).all()
    assert (main["R@1 low"] < main["R@1 high"]).all()
    assert (main["MAP@R"] < main["mAP@100"]).all()
    assert main["left out"].unique().tolist() == [0]


def test_co_is_far_above_chance_and_local_matching_too():
    table = load_table(STUDY, "main").set_index("method")
    chance = 4 / 239
    assert table.loc["CO", "R@1"] > 10 * chance
    assert table.loc["CO + local matching", "R@1"] > 10 * chance


def test_the_clean_row_is_the_main_row_and_the_published_choice_is_never_below_it():
    selection = load_table(STUDY, "selection")
    co = load_table(STUDY, "global").set_index("method").loc["CO"]
    assert selection.protocol.tolist() == ["clean", "between", "between", "between", "as published"]
    assert selection["R@1"].tolist()[0] == pytest.approx(co["R@1"])
    on_test = selection[selection["epoch chosen on"] == "test photos"].set_index("query left out by")
    assert on_test.loc["row number", "R@1"] >= selection["R@1"][0]
    assert on_test.loc["position", "R@1"] >= selection["R@1"][2]


def test_differences_have_both_metrics_and_rendered_photos_no_duplicates():
    differences = load_table(STUDY, "differences")
    assert differences.metric.tolist() == ["R@1"] * len(methods.PAIRS) + ["MAP@R"] * len(methods.PAIRS)
    main = load_table(STUDY, "main").set_index("method")
    gain = main["MAP@R"]["CO + RRT (frozen)"] - main["MAP@R"]["CO"]
    rows = differences.set_index(["metric", "method", "baseline"]).difference
    assert rows["MAP@R", "CO + RRT (frozen)", "CO"] == pytest.approx(gain)
    duplicates = load_table(STUDY, "duplicates")
    assert (duplicates.copies == 0).all()
    assert duplicates["R@1"].tolist() == duplicates["R@1 without copies"].tolist()


def test_query_gallery_and_unknown_products():
    table = load_table(STUDY, "query_gallery")
    assert table.queries.tolist() == [48, 48]
    assert table.gallery.nunique() == 1
    openset = load_table(STUDY, "openset")
    assert openset.method.tolist() == table.method.tolist()
    assert (openset["accepted and right"] <= openset["true accept"]).all()
    assert (openset.AUROC > 0.5).all()
    assert openset["accepted and right"].le(table["R@1"]).all()


def test_categories_have_intervals_and_transfer_names_its_gallery():
    categories = load_table(STUDY, "categories").set_index(["method", "category"])
    macro = categories.loc[("CO", "macro mean"), "R@1"]
    assert macro == pytest.approx(
        load_table(STUDY, "global").set_index("method").loc["CO", "R@1"]
    )  # categories of equal size
    assert (categories["R@1"] <= categories["category accuracy"]).all()
    assert (categories["R@1 low"] <= categories["R@1 high"]).all()
    transfer = load_table(STUDY, "transfer")
    assert transfer.gallery.unique().tolist() == ["test among test", "test in train"]
    folder = results_folder(STUDY) / "tables"
    named = ("main", "global", "differences", "selection", "duplicates", "transfer", "categories",
             "query_gallery", "openset")  # fmt: skip
    assert all("protocol" in pd.read_csv(folder / f"{name}.csv") for name in named)


def test_transforms_move_the_stage_that_saw_them_only():
    grid = load_table(STUDY, "transforms")
    assert len(grid) == 3 + 33 * 7
    assert grid.method.unique().tolist() == reported.REPORTED.method.tolist()
    assert (grid["R@1 low"] <= grid["R@1"]).all() and (grid["R@1"] <= grid["R@1 high"]).all()
    assert grid.products.eq(6).all()
    reranked = grid[grid.stage == "reranker"]
    plain = grid[grid.stage == "none"].set_index("method")
    assert (reranked["R@100"].fillna(0) == plain["R@100"].fillna(0)[reranked.method].to_numpy()).all()
    rows = grid.set_index(["transform", "severity", "stage", "method"])
    assert rows.loc[("normalization", "one level", "shortlist", "CO"), "difference"] < 0
    assert (plain.difference == 0).all()


def test_each_training_transform_trained_differently():
    trainings = load_table(STUDY, "training_transforms")
    assert trainings.training.tolist() == ["flip and crop", "no flip", "no crop"]
    assert trainings.loss.nunique() == 3
    assert trainings.difference[0] == 0
    assert (trainings.low <= trainings.difference).all() and (trainings.difference <= trainings.high).all()


def test_the_grid_begins_with_co_and_the_baselines_repeat_the_main_rows():
    grid = load_table(STUDY, "depth_grid")
    main = load_table(STUDY, "main").set_index("method")
    plain = grid[(grid["input"] == "center crop") & ~grid.flip].set_index("depth")
    assert grid["input"].nunique() == 3
    assert grid.queries.unique().tolist() == [240]  # all of them
    assert plain.loc[1, "R@1"] == pytest.approx(main.loc["CO", "R@1"])
    assert plain["R@10"].iloc[:3].nunique() == 1  # an order of the first ten does not change recall@10
    table = load_table(STUDY, "baselines").set_index("method")
    for method in ("CO", "CO + RRT (finetuned)", "CO + local matching"):
        assert table.loc[method, "MAP@R"] == pytest.approx(main.loc[method, "MAP@R"])
    assert table["R@100"].nunique() == 1
    assert load_table(STUDY, "asymmetry")["R@1"][0] == pytest.approx(main.loc["CO + RRT (finetuned)", "R@1"])
    points = load_table(STUDY, "contradictions")
    assert points.point.unique().tolist() == [1, 5, 6]
    assert points.difference[0] == 0  # recall at the shortlist's length, the same shortlist in two orders


def test_products_in_shared_places_are_asked_of_every_method_and_own_photos_repeat_the_main_rows():
    table = load_table(STUDY, "product_or_place")
    assert table.queries.eq(48).all() and table["left out"].eq(0).all()
    assert (table["place@1"] + table["R@1"]).le(1).all()
    assert (table["place@1 low"] <= table["place@1"]).all()
    own, main = (load_table(STUDY, name).set_index("method") for name in ("product_or_place_own", "main"))
    assert own.index.tolist() == table.method.tolist()
    shared = main.index.intersection(own.index)
    assert {"CO", "CO + local matching", "CO + RRT (frozen)", "CO + RRT (finetuned)"} <= set(shared)
    for method in shared:
        if "global score" not in method:  # whose weight is chosen on photos in shared places, too
            assert own.loc[method, "MAP@R"] == pytest.approx(main.loc[method, "MAP@R"])


def test_half_the_bits_of_local_features_change_nothing_and_clock_times_are_marked_as_such():
    storage = load_table(STUDY, "storage").set_index("storage")
    assert storage.loc["float16", "changed@1"] == 0
    assert storage["bytes per photo"].tolist() == [2048, 1024, 516, 68]
    assert load_table(STUDY, "precision").method.tolist() == list(benchmark.PRECISIONS)
    reranking = load_table(STUDY, "speed_reranking")
    assert "cuda" in set(reranking.device)  # measured, or a row that says "not run"
    indexes = load_table(STUDY, "speed_indexes").set_index("index")
    assert indexes.loc["Flat", "recall@1"] == 1


def test_every_notebook_left_tables_figures_and_its_executed_copy():
    folder = results_folder(STUDY)
    for notebook in NOTEBOOKS:
        cells = nbformat.read(folder / "notebooks" / notebook.name, as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code if cell.source)
    for table in (
        "counts",
        "global",
        "main",
        "shares",
        "differences",
        "selection",
        "duplicates",
        "query_gallery",
        "openset",
        "transforms",
        "transfer",
        "categories",
        "rank_changes",
        "depth_grid",
        "fusion",
        "fusion_curves",
        "asymmetry",
        "asymmetry_differences",
        "baselines",
        "baseline_differences",
        "contradictions",
        "product_or_place",
        "product_or_place_differences",
        "product_or_place_own",
        "product_or_place_own_differences",
        "patch_weights",
    ):
        assert len(pd.read_csv(folder / "tables" / f"{table}.csv"))
        assert (folder / "tables" / f"{table}.json").exists()
    for figure in (
        "products",
        "look_alikes",
        "global_misses",
        "before_after",
        "transforms_co",
        "transforms_frozen",
        "transforms_finetuned",
        "categories",
        "openset",
        "depth_grid",
        "fusion",
        "baselines",
        "places",
        "product_or_place",
        "patch_weights",
    ):
        (saved,) = (folder / "figures").glob(f"{figure}.*")
        assert saved.stat().st_size > 5000
    assert (folder / "report.html").stat().st_size < 4_000_000


def test_a_second_run_has_nothing_to_do(capfd):
    assert pipeline.run(STUDY) == 0
    assert "nothing to do" in capfd.readouterr().out


def papermill(notebook, folder, profile):
    """Run a notebook by hand, as one types it in `folder`, and return the process."""
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / notebook), "out.ipynb"]
    return subprocess.run(
        [*command, "-p", "profile", profile, "--no-progress-bar"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # this package, even where another one is installed
        capture_output=True,
        text=True,
    )


def test_a_notebook_runs_by_hand_from_any_folder(tmp_path):
    ended = papermill("09_results.ipynb", tmp_path, "smoke")
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]  # what it writes goes where it belongs
    last = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1]
    assert "differences in recall@1" in last.outputs[0].data["text/markdown"]


def test_an_unknown_profile_gives_the_sentence_of_the_command_line(tmp_path):
    ended = papermill("09_results.ipynb", tmp_path, "smok")
    assert ended.returncode != 0
    assert ended.stderr.strip().endswith(
        "ValueError: unknown profile 'smok': choose one of mini, smoke, photos, sop, paper, rehearsal"
    )
    assert "find_profile" not in ended.stderr  # no traceback of the cell; papermill shows its own


def test_a_notebook_can_be_stepped_through_where_it_lies(monkeypatch):
    """As JupyterLab does it: the kernel starts in the notebook's folder, the profile is typed into its
    cell."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "notebooks" / "09_results.ipynb", as_version=4)
    there = set((ROOT / "notebooks").iterdir())
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(ROOT / "notebooks")}})
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.metadata.get("tags") == ["parameters"]:
                cell.source = 'profile = "smoke"'
            client.execute_cell(cell, index)
    assert "differences in recall@1" in notebook.cells[-1].outputs[0].data["text/markdown"]
    assert set((ROOT / "notebooks").iterdir()) == there


def test_a_killed_second_run_gives_the_same_tables_and_weights_byte_for_byte(tmp_path):
    project = torture.copy_project(tmp_path)
    data = data_folder(STUDY)
    for name in ("data", "photos", "global", "stamps"):
        shutil.copytree(data / name, project / "data" / "smoke" / name)
    for checkpoint in project.rglob("*.pt"):
        checkpoint.unlink()
    only = ["-m", "waldo_utils", "run", "--profile", "smoke", "--only", "02_train_global"]
    assert len(torture.torture(project, only, kills=1, rng=random.Random(2), longest=8)) == 1
    for name in ("global", "selection"):
        table = results_folder(STUDY) / "tables" / f"{name}.csv"
        assert (project / table.relative_to(ROOT)).read_bytes() == table.read_bytes()
    weights = data / "global" / "seed0" / "weights.safetensors"
    assert (project / weights.relative_to(ROOT)).read_bytes() == weights.read_bytes()
