"""The profile `paper`, rehearsed: its recipe through the real runner on tiny folders of the published
form."""

import shutil
import zipfile

import nbformat
import pandas as pd
import pytest
import torch

from waldo_utils.data import places, sources
from waldo_utils.disk.artifacts import data_folder, load_frame, load_table, load_weights, results_folder
from waldo_utils.evaluation import reported
from waldo_utils.experiments.methods import METHODS
from waldo_utils.miniature.datasets import render_products10k, render_sop
from waldo_utils.models import starting_weights
from waldo_utils.run import pipeline
from waldo_utils.study import PROFILES, GlobalStage

STUDY, PAPER = PROFILES["rehearsal"], PROFILES["paper"]
# Speed, demo, and products that are rendered in places of their own ask nothing of the paper's form.
LEFT_OUT = ("10_speed_and_scale", "11_demo", "12_own_photos")
STAGES = tuple(stage for stage in pipeline.STAGES if stage.stem not in LEFT_OUT)


def write_imagenet_weights(torch_home, backbone):
    """Write a file of random weights of the form and name of torchvision's."""
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.get_model(backbone)
    name = torchvision.models.get_model_weights(backbone).IMAGENET1K_V1.url.rsplit("/", 1)[1]
    path = torch_home / "hub" / "checkpoints" / name
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """Tiny folders of exactly the published form: Stanford Online Products, and Products-10k beside it."""
    folder = tmp_path_factory.mktemp("published")
    sop = render_sop(folder / "Stanford_Online_Products", 5, 2, 2, 5, 48, 0.5, processes=1)
    transfer = render_products10k(folder / "Products-10k", 6, 2, 1, 5, 48, 0.5, processes=1)
    for unknown_to_the_authors in (
        sop / "settings.json",
        transfer / "settings.json",
        transfer / "categories.csv",
    ):
        unknown_to_the_authors.unlink()
    weights = write_imagenet_weights(folder / "torch", "resnet50")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WALDO_DATA", str(sop))
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        assert pipeline.run(STUDY, force=True, stages=STAGES) == 0
        yield folder
    weights.unlink()  # 100 MB
    for left in (data_folder(STUDY), results_folder(STUDY)):  # a rehearsal of real photos must not find these
        shutil.rmtree(left)


def test_the_rehearsal_is_the_papers_recipe_but_for_sizes():
    shrunk = {"data": {"source", "cache_size"}, "global_": {"resize", "size", "epochs", "batch", "drops"}, 
              "reranker": {"epochs", "triplets", "negatives", "drops", "finetune_epochs"},
              "evaluation": {"depth", "resamples", "ablation_products"}}  # fmt: skip
    for stage, names in shrunk.items():
        ours, published = vars(getattr(STUDY, stage)), vars(getattr(PAPER, stage))
        assert {name for name in ours if ours[name] != published[name]} == names
    assert STUDY.global_.resize * 224 == STUDY.global_.size * 256


def test_the_rehearsal_gives_every_figure(rehearsal):
    counts = load_table(STUDY, "counts").set_index("split")
    assert counts.products.to_dict() == {"train": 12, "validation": 12, "test": 24}
    assert counts.categories.tolist() == [12] * 3
    main = load_table(STUDY, "main")
    assert main.method.tolist() == list(METHODS)
    assert set(reported.REPORTED.method) <= set(main.method)
    assert main.queries.tolist() == [120] * len(METHODS)
    assert main["R@100"].nunique() == 1
    assert main["R@1"].gt(4 / 119).all()  # chance; random weights see colors
    assert load_table(STUDY, "transfer").queries.tolist() == [32] * 12
    grid = load_table(STUDY, "transforms")
    assert grid.groupby("method", sort=False).size().tolist() == [34, 100, 100]
    categories = load_table(STUDY, "categories")
    assert set(reported.REPORTED_CATEGORIES) < set(categories.category)


def test_the_rehearsal_trains_with_the_published_optimizers_and_sizes(rehearsal):
    model, reranker = (
        load_weights(STUDY, "global/seed0/weights"),
        load_weights(STUDY, "reranker/seed0/finetuned_reranker"),
    )
    assert model["backbone.layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert "encoder.layers.5.linear1.weight" in reranker
    assert load_frame(STUDY, "global/log").epoch.tolist() == [0, 1, 2]
    assert load_frame(STUDY, "reranker/log").groupby("stage").size().to_dict() == {
        "finetuned": 2,
        "frozen": 3,
    }
    state = torch.load(next(data_folder(STUDY).glob("global/seed0_*.pt")), weights_only=True)
    group = state["optimizer"]["param_groups"][0]
    assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (True, 0.9, 4e-4)
    assert group["lr"] == pytest.approx(PAPER.global_.learning_rate / 10)  # dropped after its first epoch


def test_every_notebook_of_the_rehearsal_ran_to_its_end(rehearsal):
    for stage in STAGES:
        notebook = nbformat.read(results_folder(STUDY) / "notebooks" / f"{stage.stem}.ipynb", as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code if cell.source)


def test_the_published_counts_are_asked_of_paper_alone(rehearsal, tmp_path):
    manifest, _ = sources.open_source(STUDY.data, tmp_path)
    assert len(manifest) == 240
    with pytest.raises(
        ValueError, match="120 photos of 24 products, published are 59551 of 11318: .*rehearsal"
    ):
        sources.open_source(PAPER.data, tmp_path)


def test_zip_files_of_both_sets_serve_as_their_folders(rehearsal, tmp_path, monkeypatch):
    for name in ("Stanford_Online_Products", "Products-10k"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as out:
            for path in (rehearsal / name).rglob("*.*"):
                out.write(path, path.relative_to(rehearsal))
    frames = {}
    for place in (rehearsal, tmp_path / "Stanford_Online_Products.zip"):
        monkeypatch.setenv("WALDO_DATA", str(place))
        frames[place] = pd.concat(
            [sources.open_source(STUDY.data, tmp_path)[0], sources.open_transfer(STUDY.data, tmp_path)[0]]
        )
    first, second = frames.values()
    pd.testing.assert_frame_equal(first, second)


def test_absent_data_say_how_to_get_them_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    for place, reason in (
        (tmp_path, "no sop data in"),
        (tmp_path / "no.zip", "no.zip, which does not exist"),
    ):
        monkeypatch.setenv("WALDO_DATA", str(place))
        with pytest.raises(FileNotFoundError, match=reason) as error:
            sources.open_source(PAPER.data, tmp_path)
        assert "download Stanford_Online_Products.zip (https://cvgl.stanford.edu/" in str(error.value)
        assert "set WALDO_DATA to it, its folder or a folder above" in str(error.value)
        assert "\n" not in str(error.value)
    monkeypatch.delenv("WALDO_DATA")
    with pytest.raises(
        FileNotFoundError, match="no products10k data in .*put that into the folder that WALDO_DATA names"
    ):
        sources.open_transfer(PAPER.data, tmp_path)


def test_imagenet_weights_that_cannot_be_downloaded_say_where_to_put_them(tmp_path, monkeypatch):
    def no_network(*arguments, **settings):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    place = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    with pytest.raises(ConnectionError, match=r"cannot download .*\(no network\): .* put it at ") as error:
        starting_weights.image_model(GlobalStage())
    assert str(error.value).endswith(f"put it at {place}")
    assert "\n" not in str(error.value)


def test_imagenet_weights_start_the_backbone(rehearsal, tmp_path, monkeypatch):
    path = rehearsal / "torch" / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    model = starting_weights.image_model(GlobalStage())
    weights = torch.load(path, weights_only=True)
    assert torch.equal(model.backbone.layer4[2].conv3.weight, weights["layer4.2.conv3.weight"])
    broken = tmp_path / "hub" / "checkpoints" / path.name
    broken.parent.mkdir(parents=True)
    broken.write_bytes(path.read_bytes()[:5000])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="resnet50-0676ba61.pth is not a whole file of torch weights"):
        starting_weights.image_model(GlobalStage())
