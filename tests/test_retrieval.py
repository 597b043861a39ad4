"""Search against a plain loop and against the neighbors that the published code found."""

import json

import numpy as np
import pytest

from waldo_utils import metrics, retrieval
from waldo_utils.study import ROOT

PARITY = ROOT.parent / "shared" / "parity" / "rrt_parity.npz"


@pytest.mark.skipif(not PARITY.exists(), reason="the published code's neighbors are not beside the project")
def test_search_finds_what_the_published_code_found():
    with np.load(PARITY) as published:
        features, labels = published["knn_features"], published["knn_labels"]
        expected, recall = published["knn_indices"], json.loads(str(published["knn_recall"]))  # per cent
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    neighbors, _ = retrieval.nearest_neighbors(features, expected.shape[1])
    np.testing.assert_array_equal(neighbors, expected)
    for k, value in recall.items():
        assert 100 * metrics.recall_at_k(neighbors, labels, labels, int(k)) == pytest.approx(value)
