"""Command line of the study: run the notebooks, see what is up to date, make the starting weights, test published ones."""

import argparse
import sys
from pathlib import Path

from waldo_utils import pipeline
from waldo_utils.study import PROFILES, ROOT


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; errors of use and of data are one line."""
    parser = argparse.ArgumentParser(prog="python -m waldo_utils", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the notebooks, only what changed")
    run.add_argument("--profile", default="mini", help=f"one of {', '.join(PROFILES)} (default: mini)")
    run.add_argument("--force", action="store_true", help="run everything again")
    run.add_argument("--only", metavar="NOTEBOOK", help="run a single notebook, for example 07_results")
    run.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="another notebook parameter"
    )
    status = commands.add_parser("status", help="say which notebooks are up to date")
    status.add_argument("--profile", default="mini", help=f"one of {', '.join(PROFILES)} (default: mini)")
    commands.add_parser("profiles", help="list the profiles")
    pretrain = commands.add_parser(
        "pretrain", help="make the starting weights of the small profiles (an hour on two cores)"
    )
    pretrain.add_argument(
        "--work", type=Path, default=ROOT / "data" / "pretraining", help="folder for photos and checkpoints"
    )
    evaluate = commands.add_parser(
        "evaluate",
        help="reproduce the paper without training: test a published checkpoint on Stanford Online Products",
        description="Reproduce the paper without training: the test set of Stanford Online Products, resized to 256 "
        "and cropped to 224 pixels, searched by the global model (CO) and reranked (CO + RRT).",
    )
    evaluate.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="published reranking checkpoint (.pt)"
    )
    evaluate.add_argument(
        "--global-checkpoint",
        type=Path,
        metavar="FILE",
        help="published global checkpoint, which gives the shortlist (default: the checkpoint's own)",
    )
    evaluate.add_argument(
        "--data", type=Path, metavar="PLACE", help="folder or zip file of the photos (default: WALDO_DATA)"
    )
    evaluate.add_argument(
        "--depth", type=int, default=100, help="neighbors reranked per query (default: 100)"
    )
    evaluate.add_argument(
        "--output", type=Path, metavar="TABLE.csv", help="also write the table, and its provenance beside it"
    )
    readme = commands.add_parser("readme", help="write the tables of results/ into README.md")
    readme.add_argument("--check", action="store_true", help="only say whether they agree")
    options = parser.parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    if any("=" not in param for param in options.param):
        raise ValueError(f"--param takes NAME=VALUE, got {options.param}")
    parameters = dict(param.split("=", 1) for param in options.param)
    if "profile" in parameters:
        raise ValueError("give the profile with --profile")
    return pipeline.run(pipeline.find_profile(options.profile), options.force, options.only, parameters)


def _status(options: argparse.Namespace) -> int:
    for stem, current in pipeline.status(pipeline.find_profile(options.profile)).items():
        print(f"{stem:32} {'up to date' if current else 'to run'}")
    return 0


def _profiles(options: argparse.Namespace) -> int:
    for study in PROFILES.values():
        print(f"{study.name:8} {study.summary}")
    return 0


def _pretrain(options: argparse.Namespace) -> int:
    from waldo_utils import pretraining, starting_weights

    print(pretraining.pretrain(options.work, starting_weights.FOLDER).to_string())
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from waldo_utils import manifests, published

    if options.output and options.output.suffix != ".csv":
        raise ValueError(f"--output is {options.output}: choose a name that ends in .csv")
    root = manifests.find_in("sop", options.data) if options.data else manifests.find_data("sop")
    table, provenance = published.evaluate(options.checkpoint, options.global_checkpoint, root, options.depth)
    print(published.report(table, provenance))
    if options.output:
        published.save(table, provenance, options.output)
    return 0


def _readme(options: argparse.Namespace) -> int:
    from waldo_utils import readme

    return readme.update(ROOT / "README.md", check=options.check)


_COMMANDS = {
    "run": _run, "status": _status, "profiles": _profiles, "pretrain": _pretrain, "evaluate": _evaluate,
    "readme": _readme,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
