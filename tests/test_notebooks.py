"""The whole study on the smallest profile, through the real runner: figures, not only exit codes."""

import nbformat
import pandas as pd
import pytest

from waldo_utils import pipeline, results
from waldo_utils.artifacts import load_table, results_folder
from waldo_utils.study import PROFILES, ROOT

STUDY = PROFILES["smoke"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module", autouse=True)
def smoke_study():
    assert pipeline.run(STUDY) == 0


def test_the_main_table_has_the_reported_rows_and_one_recall_at_100():
    main = load_table(STUDY, "main")
    assert main.method.tolist() == results.REPORTED.method.tolist()
    assert main["R@100"].nunique() == 1
    assert (main["R@1"] <= main["R@10"]).all()
    assert (main["R@10"] <= main["R@100"]).all()
    assert main.queries.tolist() == [240] * 3
    for name in ("R@1", "R@10", "R@100", "MAP@R", "mAP@100"):
        assert (main[f"{name} low"] <= main[name]).all()
        assert (main[name] <= main[f"{name} high"]).all()
    assert (main["R@1 low"] < main["R@1 high"]).all()
    assert (main["MAP@R"] < main["mAP@100"]).all()
    assert main["left out"].tolist() == [0] * 3


def test_co_is_far_above_chance_and_local_matching_too():
    table = load_table(STUDY, "rerankings").set_index("method")
    chance = 4 / 239
    assert table.loc["CO", "R@1"] > 10 * chance
    assert table.loc["CO + local matching", "R@1"] > 10 * chance


def test_the_clean_row_is_the_main_row_and_the_published_choice_is_never_below_it():
    selection, co = load_table(STUDY, "selection"), load_table(STUDY, "global").iloc[0]
    assert selection.protocol.tolist() == ["clean", "between", "between", "between", "as published"]
    assert selection["R@1"].tolist()[0] == pytest.approx(co["R@1"])
    on_test = selection[selection["epoch chosen on"] == "test photos"].set_index("query left out by")
    assert on_test.loc["row number", "R@1"] >= selection["R@1"][0]
    assert on_test.loc["position", "R@1"] >= selection["R@1"][2]


def test_differences_have_both_metrics_and_rendered_photos_no_duplicates():
    differences = load_table(STUDY, "differences")
    assert differences.metric.tolist() == ["R@1"] * 5 + ["MAP@R"] * 5
    main = load_table(STUDY, "main").set_index("method")
    gain = main["MAP@R"]["CO + RRT (frozen)"] - main["MAP@R"]["CO"]
    assert differences.difference[5] == pytest.approx(gain)
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
    assert macro == pytest.approx(load_table(STUDY, "global")["R@1"][0])  # categories of equal size
    assert (categories["R@1"] <= categories["category accuracy"]).all()
    assert (categories["R@1 low"] <= categories["R@1 high"]).all()
    transfer = load_table(STUDY, "transfer")
    assert transfer.gallery.unique().tolist() == ["test among test", "test in train"]
    tables = results_folder(STUDY) / "tables"
    named = ("main", "rerankings", "global", "differences", "selection", "duplicates", "transfer", "categories",
             "query_gallery", "openset")  # fmt: skip
    assert all("protocol" in pd.read_csv(tables / f"{name}.csv") for name in named)


def test_transforms_move_the_stage_that_saw_them_only():
    grid = load_table(STUDY, "transforms").set_index(["transform", "stage"])
    plain = grid.loc[("none", "both")]
    for name in ("perspective", "grayscale", "contrast", "blur"):
        assert grid.loc[(name, "reranker"), "CO R@1"] == plain["CO R@1"]
    assert grid.loc[("normalization", "both"), "CO R@1"] < plain["CO R@1"]


def test_each_training_transform_trained_differently():
    trainings = load_table(STUDY, "training_transforms")
    assert trainings.training.tolist() == ["flip and crop", "no flip", "no crop"]
    assert trainings.loss.nunique() == 3


def test_half_the_bits_of_local_features_change_nothing_and_clock_times_are_marked_as_such():
    storage = load_table(STUDY, "storage").set_index("storage")
    assert storage.loc["float16", "changed@1"] == 0
    assert storage["bytes per photo"].tolist() == [8192, 4096, 2052, 260]
    assert load_table(STUDY, "precision").method.tolist() == ["float32", "bfloat16"]
    reranking = load_table(STUDY, "speed_reranking")
    assert "cuda" in set(reranking.device)  # measured, or a row that says "not run"
    indexes = load_table(STUDY, "speed_indexes").set_index("index")
    assert indexes.loc["Flat", "recall@1"] == 1


def test_every_notebook_left_tables_figures_and_its_executed_copy():
    folder = results_folder(STUDY)
    assert [path.stem for path in NOTEBOOKS] == [stage.stem for stage in pipeline.STAGES]
    for notebook in NOTEBOOKS:
        cells = nbformat.read(folder / "notebooks" / notebook.name, as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code if cell.source)
    for table in (
        "counts",
        "global",
        "main",
        "rerankings",
        "differences",
        "selection",
        "duplicates",
        "query_gallery",
        "openset",
        "transforms",
        "transfer",
        "categories",
    ):
        assert len(pd.read_csv(folder / "tables" / f"{table}.csv"))
        assert (folder / "tables" / f"{table}.json").exists()
    for figure in (
        "products",
        "look_alikes",
        "global_misses",
        "before_after",
        "transforms_heatmap",
        "categories",
        "openset",
    ):
        assert (folder / "figures" / f"{figure}.png").stat().st_size > 5000
    assert (folder / "report.html").stat().st_size < 4_000_000


def test_a_second_run_has_nothing_to_do(capfd):
    assert pipeline.run(STUDY) == 0
    assert "nothing to do" in capfd.readouterr().out


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_call_and_do_not_define(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert 12 <= len(cells) <= 30
    assert [cell.metadata.get("tags") for cell in cells].count(["parameters"]) == 1
    for source in code:
        assert not any(
            line.lstrip().startswith(("def ", "class ")) or "sys.path" in line for line in source.splitlines()
        )
