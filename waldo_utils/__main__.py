"""Command line of the study: run the notebooks, test published weights, search your own photos, open the
demo."""

import argparse
import io
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

from waldo_utils.disk import faults, files, homes, locks
from waldo_utils.disk.paths import given
from waldo_utils.run import pipeline
from waldo_utils.study import PROFILES


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; errors of use and of data are one line."""
    parser = argparse.ArgumentParser(prog="python -m waldo_utils", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the notebooks, only what changed")
    run.add_argument("--profile", default="mini", help=f"one of {', '.join(PROFILES)} (default: mini)")
    run.add_argument("--force", action="store_true", help="run everything again")
    run.add_argument(
        "--measure", action="store_true", help="run everything again, and renew the times that are kept"
    )
    run.add_argument("--only", metavar="NOTEBOOK", help="run a single notebook, for example 08_results")
    run.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="another notebook parameter"
    )
    status = commands.add_parser("status", help="say which notebooks are up to date")
    status.add_argument("--profile", default="mini", help=f"one of {', '.join(PROFILES)} (default: mini)")
    commands.add_parser("profiles", help="list the profiles")
    evaluate = commands.add_parser(
        "evaluate",
        help="reproduce the paper without training: test a published checkpoint on Stanford Online Products",
        description="Reproduce the paper without training: the test set of Stanford Online Products, resized to 256 "
        "and cropped to 224 pixels, searched by the global model (CO) and reranked (CO + RRT).",
    )
    evaluate.add_argument(
        "--checkpoint", type=given, required=True, metavar="FILE", help="published reranking checkpoint (.pt)"
    )
    evaluate.add_argument(
        "--global-checkpoint",
        type=given,
        metavar="FILE",
        help="published global checkpoint, which gives the shortlist (default: the checkpoint's own)",
    )
    evaluate.add_argument(
        "--data", type=given, metavar="PLACE", help="folder or zip file of the photos (default: WALDO_DATA)"
    )
    evaluate.add_argument(
        "--depth", type=int, default=100, help="neighbors reranked per query (default: 100)"
    )
    evaluate.add_argument(
        "--output", type=given, metavar="TABLE.csv", help="also write the table, and its provenance beside it"
    )
    readme = commands.add_parser("readme", help="write the README's tables and the pages of results/")
    readme.add_argument("--check", action="store_true", help="only say whether they agree")
    index = commands.add_parser("index", help="make or update the index of a folder of photos")
    index.add_argument("folder", type=given, metavar="FOLDER", help="its sub-folders name products")
    index.add_argument("--output", type=given, metavar="DIR", help="default: below data/indexes")
    index.add_argument("--profile", default="mini", help="whose models (default: mini)")
    search = commands.add_parser("search", help="find the product of a photo in an index")
    search.add_argument("photo", type=given, metavar="PHOTO")
    search.add_argument("--crop", metavar="X,Y,W,H", help="left, top, width, height in pixels (default: all)")
    search.add_argument("--top", type=int, default=10, help="matches to show (default: 10)")
    search.add_argument("--index", type=given, metavar="DIR", help="default: the index that was made last")
    search.add_argument("--output", type=given, metavar="PNG", help="also write a picture of the matches")
    search.add_argument("--json", action="store_true", help="print JSON")
    benchmark = commands.add_parser("benchmark", help="measure search and reranking on this machine")
    benchmark.add_argument(
        "--full", action="store_true", help="galleries up to a million photos (half an hour)"
    )
    benchmark.add_argument(
        "--profile", default="mini", help="whose features galleries are drawn like (default: mini)"
    )
    benchmark.add_argument(
        "--output", type=given, metavar="FOLDER", help="default: results/benchmarks with --full"
    )
    demo = commands.add_parser("demo", help="open the demo as a page (needs the extra `demo`)")
    demo.add_argument("--profile", default="mini", help=f"one of {', '.join(PROFILES)} (default: mini)")
    demo.add_argument("--port", type=int, default=8866, help="of the page (default: 8866)")
    demo.add_argument("--no-browser", action="store_true", help="only serve the page")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of photos in letters the terminal lacks
    try:
        if options.command in ("run", "status", "readme", "demo"):
            homes.require_checkout(options.command)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # remarks on a photo's EXIF that name no photo
            return _COMMANDS[options.command](options)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        text = faults.explain(error) if isinstance(error, OSError) else faults.printable(str(error))
        print(f"error: {text}", file=sys.stderr)
        return 2
    except locks.Held as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _check_output(path: Path | None, ending: str, source: Path | None = None) -> None:
    """Refuse a file that could not be written in the end, or in whose place the `source` is, before
    computing."""
    if path is None:
        return
    if path.suffix.lower() != ending:
        raise ValueError(f"--output is {path}: choose a name that ends in {ending}")
    if path.is_dir() or source and path.exists() and source.exists() and path.samefile(source):
        what = "a folder" if path.is_dir() else "the photo itself"
        raise ValueError(f"--output {path} is {what}: choose another name")
    files.check_writable(path.parent)


def _run(options: argparse.Namespace) -> int:
    if any("=" not in param for param in options.param):
        raise ValueError(f"--param takes NAME=VALUE, got {options.param}")
    parameters = dict(param.split("=", 1) for param in options.param)
    if "profile" in parameters:
        raise ValueError("give the profile with --profile")
    study = pipeline.find_profile(options.profile)
    return pipeline.run(study, options.force, options.only, parameters, options.measure)


def _status(options: argparse.Namespace) -> int:
    for stem, current in pipeline.status(pipeline.find_profile(options.profile)).items():
        print(f"{stem:32} {'up to date' if current else 'to run'}")
    return 0


def _profiles(options: argparse.Namespace) -> int:
    for study in PROFILES.values():
        print(f"{study.name:8} {study.summary}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from waldo_utils.data import places
    from waldo_utils.experiments import published

    _check_output(options.output, ".csv")
    root = places.find_in("sop", options.data) if options.data else places.find_data("sop")
    table, provenance = published.evaluate(options.checkpoint, options.global_checkpoint, root, options.depth)
    print(published.report(table, provenance))
    if options.output:
        published.save(table, provenance, options.output)
    return 0


def _readme(options: argparse.Namespace) -> int:
    from waldo_utils.run import pages

    return pages.update(check=options.check)


def _index(options: argparse.Namespace) -> int:
    from waldo_utils.app import index_files

    study = pipeline.find_profile(options.profile)
    output = options.output or index_files.default_output(options.folder)
    done = index_files.unchanged(options.folder, output, study)
    if done:
        summary, weights = done
        print(f"models: {weights}")
    else:
        from waldo_utils.app import index, searching

        models = searching.open_models(study)
        print(f"models: {models.weights}", flush=True)
        summary = index.update(options.folder, output, models, options.profile)
    print(
        f"{summary.added} added, {summary.changed} changed, {summary.removed} removed, {summary.kept} as before, "
        f"{len(summary.unreadable)} left out"
    )
    for entry in summary.unreadable[:20]:
        print(f"left out: {faults.printable(entry.fault)}")
    if len(summary.unreadable) > 20:
        print(f"... and {len(summary.unreadable) - 20} more, listed in {output / 'index.json'}")
    if summary.passed:
        print(summary.passed)
    print(f"index: {output}")
    return 0


def _search(options: argparse.Namespace) -> int:
    import json

    from waldo_utils.app import index, index_files, rejection, searching
    from waldo_utils.data import reading
    from waldo_utils.figures import grids, style

    if options.top < 1:
        raise ValueError(f"--top {options.top} shows nothing: choose 1 or more")
    _check_output(options.output, ".png", options.photo)
    folder = options.index or index_files.newest()
    box = None if options.crop is None else searching.parse_box(options.crop)
    photo = reading.read_photo(options.photo)
    models = searching.open_models(pipeline.find_profile(index.profile_of(folder)))
    opened = index.open_index(folder, models)
    answer = searching.search(models, opened.gallery, photo, box)
    table = searching.matches(answer, opened.gallery, options.top)
    texts = ("name", "product", "category")
    shown = table.assign(**{column: table[column].map(faults.printable) for column in texts})
    margin = opened.threshold.margin(answer, opened.gallery) if opened.threshold else None
    verdict = rejection.sentence(opened.threshold, margin)
    if options.output:
        picture = grids.answer_grid(answer.query, [opened.gallery.photo(row) for row in table.row], shown)
        style.save(picture, options.output)
    if gone := index.told_as_gone(opened, folder, table.row):
        print(faults.printable(gone), file=sys.stderr)
    if options.json:
        content = {
            "photo": str(options.photo),
            "crop": searching.clip_box(box, photo.size) if box else None,
            "index": str(folder),
            "folder": str(opened.folder),
            "models": models.weights,
            "verdict": verdict,
            "in catalogue": None if margin is None else margin >= 0,
            "matches": table.drop(columns="row").to_dict("records"),
        }
        print(json.dumps(content, indent=1))
    else:
        print(f"index: {folder} ({len(opened.gallery)} photos)\nmodels: {models.weights}\n{verdict}\n")
        print(shown.drop(columns="row").round({"score": 2, "similarity": 3}).to_string(index=False))
    return 0


def _benchmark(options: argparse.Namespace) -> int:
    import torch

    from waldo_utils.disk import artifacts
    from waldo_utils.experiments import benchmark

    study = pipeline.find_profile(options.profile)
    plan = benchmark.PLANS["full" if options.full else "default"]
    output = options.output or (benchmark.FOLDER if options.full else None)
    if output:
        files.check_writable(output)
    manifest = artifacts.load_frame(study, "data/manifest")
    embedding = artifacts.load_array(study, f"global/seed{study.seeds[0]}/test_features")
    facts = benchmark.machine() | {"plan": asdict(plan), "profile": study.name}
    print(f"{facts['processor']}, {torch.get_num_threads()} threads, load {facts['load']:.1f} at the start")
    labels = manifest.label[manifest.split == "test"].to_numpy()
    for name, table in benchmark.measure(plan, embedding, labels):
        text = table.to_string(index=False, float_format="{:.3g}".format, na_rep="not run")
        print(f"\n{name}\n{text}", flush=True)
        if output:
            benchmark.save(name, table, output, facts)
            print(f"written to {output / name}.csv", flush=True)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from waldo_utils.app import page

    return page.serve(pipeline.find_profile(options.profile), options.port, not options.no_browser)


_COMMANDS = {
    "run": _run,
    "status": _status,
    "profiles": _profiles,
    "evaluate": _evaluate,
    "readme": _readme,
    "index": _index,
    "search": _search,
    "benchmark": _benchmark,
    "demo": _demo,
}

if __name__ == "__main__":
    sys.exit(main())
