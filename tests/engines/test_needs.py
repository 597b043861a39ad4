"""Large galleries on paper: every figure follows from the measured ones."""

import pandas as pd
import pytest

from waldo_utils.engines import needs

INDEXES = pd.DataFrame(
    [
        (1_000, "Flat", 0, 1.0, 9.0, 9.0),
        (10**7, "Flat", 0, 1.0, 160.0, 5_120.0),
        (10**7, "HNSW32", 128, 0.99, 0.5, 7_840.0),
        (10**7, "IVF,PQ32", 16, 0.64, 0.4, 400.0),
    ],
    columns=["gallery", "index", "effort", "recall@100", "p50 ms", "MB"],
)


def test_memory_grows_with_the_gallery_and_reranking_does_not():
    table = needs.engine_needs(INDEXES, 128, 0.036, 1.0).set_index(["photos", "engine"])
    assert table["memory GB"][10**9, "exact"] == pytest.approx(512)
    assert table.machines[10**9, "exact"] == 2
    assert table.machines[10**6, "exact"] == 1
    assert table["s per query"][10**8, "exact"] == pytest.approx(1.6)
    assert table["s per query"][10**9, "faiss HNSW32"] == pytest.approx(0.0005)
    assert table["memory GB"][10**8, "Qdrant (documented)"] == pytest.approx(76.8)
    assert table["s per query"].isna().sum() == 4  # not measured, so not told
    assert table["extraction hours here"][10**6].tolist() == pytest.approx([10.0] * 4)
    assert set(table["rerank 100 s"]) == {0.1}


def test_fewer_bits_cost_what_the_study_measured():
    storage = pd.DataFrame(
        {
            "storage": ["float32", "float16", "1 bit"],
            "bytes per photo": [25_088, 12_544, 788],
            "R@1": [0.75, 0.75, 0.64],
        }
    )
    table = needs.local_needs(storage).set_index("storage")
    assert table["TB of 100,000,000"].tolist() == pytest.approx([2.5088, 1.2544, 0.0788])
    assert table["lost R@1"].tolist() == pytest.approx([0, 0, 0.11])
    assert table["photos per disk"]["float16"] == 79_719_387
