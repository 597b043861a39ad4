"""The command that measures this machine: what can be typed, and what then happens."""

import argparse
from collections.abc import Callable
from dataclasses import asdict

from waldo_utils.disk import files
from waldo_utils.disk.paths import given
from waldo_utils.study import find_profile


def add(
    commands: argparse._SubParsersAction, command: Callable, add_profile: Callable, engines: Callable
) -> None:
    """Add the command; `command` and `add_profile` are the command line's own, `engines` measures engines
    beside faiss."""
    benchmark = command(
        commands, "benchmark", _benchmark, "measure search and reranking on this machine",
        "Methods take turns, so that their ratios hold on a busy machine too.", "--profile smoke",
    )  # fmt: skip
    benchmark.add_argument(
        "--full", action="store_true", help="galleries up to a million photos (half an hour)"
    )
    benchmark.add_argument(
        "--only", choices=("engines",), help="exact search, faiss and Qdrant's HNSW on the smallest gallery"
    )
    benchmark.set_defaults(measure_engines=engines)
    add_profile(benchmark, "whose features galleries are drawn like")
    benchmark.add_argument(
        "--output",
        type=given,
        metavar="FOLDER",
        help="of the tables (default: results/benchmarks with --full)",
    )


def _benchmark(options: argparse.Namespace) -> int:
    import torch

    from waldo_utils.disk import artifacts
    from waldo_utils.speed import benchmark

    study = find_profile(options.profile)
    plan = benchmark.PLANS["full" if options.full else "default"]
    output = options.output or (benchmark.FOLDER if options.full else None)
    if output:
        files.check_writable(output)
    manifest = artifacts.load_frame(study, "data/manifest")
    embedding = artifacts.load_array(study, f"global/seed{study.seeds[0]}/test_features")
    facts = benchmark.machine() | {"plan": asdict(plan), "profile": study.name}
    print(f"{facts['processor']}, {torch.get_num_threads()} threads, load {facts['load']:.1f} at the start")
    labels = manifest.label[manifest.split == "test"].to_numpy()
    measured = benchmark.measure(plan, embedding, labels)
    if options.only:
        measured = [options.measure_engines(plan, embedding, labels)]
    for name, table in measured:
        text = table.to_string(index=False, float_format="{:.3g}".format, na_rep="not run")
        print(f"\n{name}\n{text}", flush=True)
        if output:
            benchmark.save(name, table, output, facts)
            print(f"written to {output / name}.csv", flush=True)
    return 0
