"""Transforms do what they say, by row; the grid is the slow loop's; its readings claim what its intervals
hold."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from waldo_utils.data.transforms import TestTransform
from waldo_utils.experiments import ablations, severities
from waldo_utils.figures import curves
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval.features import extract_features
from waldo_utils.retrieval.reranking import rerank_scores
from waldo_utils.study import find_profile

WHITE = torch.ones(3, 16, 16)
FLAT = torch.full((3, 16, 16), 0.4)
MIXED = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(5))
VARIANTS = severities.variants(resize=36, size=32)
FULL, FROZEN = "CO + RRT (finetuned)", "CO + RRT (frozen)"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- transforms


@pytest.mark.parametrize(
    "name", ["perspective", "grayscale", "contrast", "rotation", "noise", "brightness", "occlusion"]
)
def test_an_amount_of_zero_leaves_the_photo(name):
    assert torch.allclose(severities.GRADED[name][0](MIXED, generator(), 0), MIXED, atol=1e-5)


def test_grayscale_blends_with_the_luminance():
    red = torch.zeros(3, 2, 2)
    red[0] = 1
    grey = severities.grayscale(red, generator(), 1.0)
    assert grey.flatten().tolist() == pytest.approx([0.299] * 12, abs=1e-3)
    half = severities.grayscale(red, generator(), 0.5)[:, 0, 0].tolist()
    assert half == pytest.approx([0.65, 0.15, 0.15], abs=1e-2)


def test_contrast_keeps_the_mean_and_brightness_scales_it():
    assert torch.allclose(severities.contrast(FLAT, generator(), 0.5), FLAT)
    scaled = [float(severities.brightness(FLAT, generator(row), 0.5).mean()) for row in range(50)]
    assert 0.2 <= min(scaled) < 0.3 < 0.5 < max(scaled) <= 0.6
    assert float(severities.brightness(FLAT, generator(1), 0.0).mean()) == pytest.approx(0.4)


def test_blur_spreads_a_point_and_keeps_its_light():
    point = torch.zeros(3, 33, 33)
    point[:, 16, 16] = 1
    blurred = severities.blur(point, generator(1), 8.0)
    assert blurred[0, 16, 16] < 0.9
    assert float(blurred[0].sum()) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(severities.blur(FLAT, generator(), 4.0), FLAT, atol=1e-5)


def test_occlusion_is_one_black_box_of_its_share():
    for row in range(20):
        black = severities.occlusion(WHITE, generator(row), 0.25)[0] == 0
        height, width = int(black.any(dim=1).sum()), int(black.any(dim=0).sum())
        assert int(black.sum()) == height * width  # a full rectangle
        assert height * width == pytest.approx(64, abs=12)
        assert 1 / 2.4 < height / width < 2.4


def test_perspective_and_rotation_keep_the_middle_and_bare_the_corners():
    for change, amount in ((severities.perspective, 0.75), (severities.rotation, 45)):
        results = torch.stack([change(WHITE, generator(row), amount) for row in range(10)])
        assert torch.allclose(results[:, :, 8, 8], torch.tensor(1.0), atol=1e-4)
        corners = results[:, 0][:, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners < 0.5).any(dim=1).sum() >= 7  # some draws are near zero


def test_jpeg_loses_more_at_lower_quality_and_noise_has_its_deviation():
    lost = [float((severities.jpeg(MIXED, generator(), q) - MIXED).abs().mean()) for q in (95, 50, 8)]
    assert lost == sorted(lost)
    assert torch.allclose(severities.jpeg(FLAT, generator(), 50), FLAT, atol=2 / 255)
    noisy = severities.noise(torch.full((3, 64, 64), 0.5), generator(), 0.08)
    assert float(noisy.std()) == pytest.approx(0.08, abs=0.003)


def test_half_of_the_rows_are_mirrored():
    ramp = torch.arange(16.0).div(16).expand(3, 16, 16)
    mirrored = [torch.equal(severities.flip(ramp, generator(row)), ramp.flip(2)) for row in range(100)]
    assert 35 < sum(mirrored) < 65


def test_every_variant_keeps_form_and_range_and_repeats_by_row():
    photo = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8, generator=generator())
    listed = severities.variants(resize=72, size=64)
    plain = listed[0](photo, 3)
    assert torch.equal(plain, TestTransform(72, 64)(photo))
    assert len(listed) == 1 + 10 * 3 + 3
    assert len({(v.transform, v.severity) for v in listed}) == len(listed)
    for variant in listed[1:]:
        results = [variant(photo, row) for row in (0, 1, 2, 3)]
        assert all(result.shape == (3, 64, 64) for result in results)
        assert any(not torch.equal(result, plain) for result in results)
        assert torch.equal(results[3], variant(photo, 3))
        inside = all(0 <= result.min() and result.max() <= 1 for result in results)
        assert inside == (not variant.leaves_range) == (variant.transform != "normalization")


def test_a_stronger_crop_sees_less_of_the_photo():
    photo = torch.zeros(3, 100, 100, dtype=torch.uint8)
    photo[:, 20:80, 20:80] = 255  # the middle 60 % of each side
    white = {v.severity: float(v(photo, 0).mean()) for v in VARIANTS if v.transform == "crop"}
    assert white["medium"] == pytest.approx(1, abs=0.05)
    assert white["strong"] == 1
    assert white["mild"] == pytest.approx((60 / 75) ** 2, abs=0.05)


# ---------------------------------------------------------------- the grid


def test_queries_are_the_first_photos_of_every_product_that_has_two():
    labels = np.array([7, 7, 7, 5, 3, 3, 7, 3])
    assert ablations.query_rows(labels, queries=4).tolist() == [0, 1, 4, 5]
    assert ablations.query_rows(labels, queries=1).tolist() == [0, 4]


@pytest.fixture(scope="module")
def tiny():
    """A shared and another backbone, eight photos of four products."""
    torch.manual_seed(0)
    co = ImageModel("efficientnet_lite0").eval()
    frozen, finetuned = ImageModel("efficientnet_lite0").eval(), ImageModel("efficientnet_lite0").eval()
    frozen.backbone.load_state_dict(co.backbone.state_dict())
    rerankers = {
        name: (model, RerankingTransformer(layers=2, feedforward=32).eval())
        for name, model in ((FROZEN, frozen), (FULL, finetuned))
    }
    photos = [torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8) for _ in range(8)]
    return co, rerankers, photos, np.array([0, 0, 1, 1, 2, 2, 3, 3])


def test_features_of_all_models_are_those_of_one_model_alone(tiny):
    co, rerankers, photos, _ = tiny
    models = {name: model for name, (model, _) in rerankers.items()}
    embedding, local = ablations.variant_features(co, models, batch=3)(VARIANTS[0], photos)
    plain = TestTransform(36, 32)
    assert np.allclose(embedding, extract_features(co, photos, plain)[0], atol=1e-5)
    for name, model in models.items():
        assert np.allclose(local[name], extract_features(model, photos, plain)[1], atol=2e-2)
    assert not np.allclose(local[FROZEN], local[FULL], atol=2e-2)


def test_normalization_is_refused_unless_asked(tiny):
    co, _, photos, _ = tiny
    asked, features = VARIANTS[-1], ablations.variant_features(co, {})
    with pytest.raises(ValueError, match=r"photos must lie in \[0, 1\]"):
        features(replace(asked, leaves_range=False), photos)
    features(asked, photos)
    with pytest.raises(ValueError, match="leave normalization to the model"):
        co(asked(photos[0], 0)[None])  # the check is on again


def test_known_scores_are_taken_over_and_the_others_computed():
    torch.manual_seed(1)
    reranker = RerankingTransformer(layers=1, feedforward=32).eval()
    local = np.random.default_rng(0).standard_normal((6, 128, 2, 2)).astype(np.float32)
    queries, old = np.array([1, 4]), np.array([[0, 2, 3], [5, 0, 1]])
    new = np.array([[2, 5, 0], [2, 3, 0]])
    known = rerank_scores(reranker, local[queries], local, old)
    marked = known + 100  # so that the known ones show
    scores = ablations.scores_beside(reranker, local, queries, new, old, marked)
    expected = rerank_scores(reranker, local[queries], local, new)
    taken = np.array([[True, False, True], [False, False, True]])
    assert np.allclose(scores - 100 * taken, expected, atol=1e-4)


def test_the_grid_is_the_slow_loops(tiny):
    co, rerankers, photos, labels = tiny
    chosen = [VARIANTS[0], *(v for v in VARIANTS if v.severity == "strong"), VARIANTS[-1]]
    chosen = [v for v in chosen if v.transform in ("none", "perspective", "grayscale", "normalization")]
    queries, shortlist, depth = np.array([0, 2, 3, 6]), 5, 3
    grid = ablations.transform_grid(
        co, rerankers, photos, labels, chosen, queries, shortlist, depth, resamples=50
    )
    models = {name: model for name, (model, _) in rerankers.items()}
    features = ablations.variant_features(co, models)
    seen = {v.transform: features(v, photos) for v in chosen}
    assert len(grid) == 3 + 3 * 7
    for row in grid.to_dict("records"):
        shortlist_saw = row["transform"] if row["stage"] in ("shortlist", "both") else "none"
        reranker_saw = row["transform"] if row["stage"] in ("reranker", "both") else "none"
        right = []
        for query in queries:
            embedding = seen[shortlist_saw][0]
            others = [i for i in range(len(photos)) if i != query]
            order = sorted(others, key=lambda i: -embedding[query] @ embedding[i])[:shortlist]
            if row["method"] != "CO":
                local = torch.from_numpy(seen[reranker_saw][1][row["method"]]).float()
                reranker = rerankers[row["method"]][1]
                with torch.no_grad():
                    scores = {i: float(reranker(local[query][None], local[i][None])) for i in order[:depth]}
                order = sorted(order[:depth], key=lambda i: -scores[i]) + order[depth:]
            right.append(labels[order[0]] == labels[query])
        assert row["R@1"] == np.mean(right), row
        assert row["reported"] == (row["transform"] != "none")
    again = ablations.transform_grid(
        co, rerankers, photos, labels, chosen, queries, shortlist, depth, resamples=50
    )
    pd.testing.assert_frame_equal(grid, again, check_exact=True)


def test_recall_table_pairs_each_run_with_its_baseline():
    products = np.array([0, 0, 1, 1])
    before = np.array([[1, 0], [0, 1], [0, 0], [1, 1]], dtype=bool)
    after = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], dtype=bool)
    names = pd.DataFrame({"method": ["before", "after"]})
    table = ablations.recall_table(names, [before, after], [0, 0], products, resamples=200)
    assert table["R@1"].tolist() == [0.5, 0.75]
    assert table.difference.tolist() == [0, 0.25]
    # Product 0 gains one of two queries, product 1 none: a resample gains 0, 1/4 or 1/2.
    assert table[["low", "high"]].to_numpy().tolist() == [[0, 0], [0, 0.5]]
    assert table["R@10"].isna().all()
    assert table.queries.tolist() == [4, 4]
    assert table.products.tolist() == [2, 2]


# ---------------------------------------------------------------- reading the grid


def made_up_grid():
    """A fall of 20 points that is clear wherever the reranker saw perspective; elsewhere nothing is clear."""
    rows = []
    for method, stages in (("CO", ["shortlist"]), (FULL, ablations.STAGES)):
        common = {"method": method, "R@10": 0.9, "queries": 100, "products": 50}
        for variant in VARIANTS:
            for stage in stages if variant.transform != "none" else ["none"]:
                fell = variant.transform == "perspective" and stage in ("reranker", "both")
                moved = variant.transform == "no crop" and stage != "reranker"
                difference = -0.2 if fell else 0.01
                rows.append(
                    {
                        "transform": variant.transform, "severity": variant.severity,
                        "parameter": variant.parameter, "stage": stage,
                        "R@1": 0.8 + difference, "R@100": 0.98 if moved else 0.97,
                        "difference": difference, "low": difference - 0.05, "high": difference + 0.05,
                        "reported": variant.transform in ablations.NEAREST_SEVERITY, **common,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_stage_patterns_read_the_report_and_ours():
    table = ablations.stage_patterns(made_up_grid()).set_index("transform")
    explained = table["explained by"].to_dict()
    assert [name for name, by in explained.items() if by == "reranker only"] == [
        "perspective", "grayscale", "contrast"
    ]  # fmt: skip
    assert set(explained) == {"perspective", "grayscale", "contrast", "no crop", "blur", "normalization"}
    assert table.loc["perspective", "reported R@1 change"] == "-15.2"
    assert table.loc["perspective", "ours: reranker"] == "R@1 -20.0 (-25.0 to -15.0), R@100 +0.0"
    assert table.loc["no crop", "ours: both"] == "R@1 +1.0 (-4.0 to +6.0), R@100 +1.0"
    assert table["ours there"].to_dict() == {
        name: "the same way" if name == "perspective" else "no difference found" for name in table.index
    }


def test_clear_changes_list_what_leaves_out_zero_and_nothing_else():
    table = ablations.clear_changes(made_up_grid())
    assert table[["method", "stage"]].to_numpy().tolist() == [
        ["CO", "shortlist"],
        *([FULL, s] for s in ablations.STAGES),
    ]
    assert table["R@1 fell"].tolist() == ["none", "none", *["perspective (mild, medium, strong)"] * 2]
    assert table["R@1 rose"].tolist() == ["none"] * 4
    assert table.intervals.tolist() == [33] * 4


def test_beside_report_has_the_nearest_severity_and_every_stage():
    table = ablations.beside_report(made_up_grid()).set_index("transform")
    assert table.index.tolist()[:2] == ["perspective (medium)", "grayscale (strong)"]
    assert table.loc["perspective (medium)", "R@1 reported"] == 0.693
    stages = table.loc["perspective (medium)", ["R@1 shortlist", "R@1 reranker", "R@1 both"]].tolist()
    assert stages == pytest.approx([0.81, 0.6, 0.6])


@pytest.mark.parametrize("method, stages", [("CO", 1), (FULL, 3)])
def test_the_heat_map_has_a_cell_per_row_and_marks_the_reported_and_the_clear(method, stages):
    ax = curves.transform_heatmap(made_up_grid(), method).axes[0]
    assert len(ax.patches) == stages * (10 * 3 + 3)
    values = [text for text in ax.texts if text.get_text() in ("−20.0", "+1.0")]
    assert len(values) == len(ax.patches)
    assert sum(text.get_fontweight() == "bold" for text in values) == (6 if stages == 3 else 0)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert len(names) == 13
    assert [name for name in names if "●" in name] == names[:7]


def test_each_training_lacks_one_transform_and_starts_alike(monkeypatch, tmp_path):
    study, trained, starts = find_profile("smoke"), [], []
    monkeypatch.setattr(ablations.artifacts, "ROOT", tmp_path)
    monkeypatch.setattr(ablations.artifacts, "load_array", lambda study, name: np.zeros((4, 1), int))
    monkeypatch.setattr(ablations.trained, "global_model", lambda study, seed: "CO")
    monkeypatch.setattr(
        ablations.chain, "start_reranker", lambda study, model, train, seed: starts.append(seed)
    )

    def train(*given, validate, checkpoint):
        settings, image_settings = given[5:7]
        trained.append((image_settings.flip, settings.crop_scale, settings.epochs, checkpoint.name[:12]))
        return pd.DataFrame({"loss": [2.0, 1.0 + len(trained)]})

    monkeypatch.setattr(ablations.reranker_training, "train_reranker", train)
    monkeypatch.setattr(ablations, "extract_features", lambda model, photos, transform: (None, None))
    scores = iter(np.array([[0.0, 1.0]] * 4) * sign for sign in (1, -1, 1))
    monkeypatch.setattr(ablations, "rerank_scores", lambda *given: next(scores))
    photos = SimpleNamespace(photos=[], labels=np.array([0, 0, 1, 1]))
    neighbors = np.array([[2, 1], [2, 0], [0, 3], [0, 2]])  # the right one is second
    table = ablations.training_table(study, 0, photos, photos, neighbors)
    flip, crop = study.global_.flip, study.reranker.crop_scale
    assert [training[:3] for training in trained] == [(flip, crop, 1), (0.0, crop, 1), (flip, (1.0, 1.0), 1)]
    assert len(set(starts)) == 1
    assert table.training.tolist() == ["flip and crop", "no flip", "no crop"]
    assert table.loss.tolist() == [2, 3, 4] and table.reported.tolist() == [False, True, False]
    assert table["R@1"].tolist() == [1, 0, 1] and table.difference.tolist() == [0, -1, 0]


def test_a_variant_is_named_with_its_severity_if_it_has_one():
    titles = [severities.title(variant) for variant in VARIANTS]
    assert titles[0] == "none" and titles[-1] == "normalization"
    assert "blur\nstrong" in titles
