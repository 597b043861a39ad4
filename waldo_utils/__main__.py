"""Command line of the study: run the notebooks, test published weights, search your own photos, open the
demo."""

import argparse
import io
import shlex
import sys
import textwrap
import warnings
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path

from waldo_utils.disk import faults, files, homes, locks
from waldo_utils.disk.paths import given, given_or_address
from waldo_utils.engines import commands as engine_commands
from waldo_utils.own import commands as own
from waldo_utils.run import completion, kernels, pipeline
from waldo_utils.speed import commands as speed_commands
from waldo_utils.study import PROFILES


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; errors of use and of data are one line."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of photos in letters the terminal lacks
    kernels.keep_memory()
    try:
        if options.command in ("run", "status", "readme", "train-study") or (
            options.command == "demo" and not options.index
        ):
            homes.require_checkout(options.command)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # remarks on a photo's EXIF that name no photo
            return options.function(options)
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


# ---------------------------------------------------------------- what can be typed


def _parser(name: str | None = None) -> argparse.ArgumentParser:
    # Typed as `waldo` where the package is installed, and as the module from its folder.
    name = name or ("waldo" if Path(sys.argv[0]).stem == "waldo" else "python -m waldo_utils")
    description = "\n".join(textwrap.wrap(" ".join(__doc__.split()), width=96))
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--version", action="version", version=f"waldo {_version()}")
    completion.add(parser, _parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_study(commands)
    _add_photos(commands)
    own.add(commands, _command, _add_model)
    speed_commands.add(commands, _command, _add_profile, engine_commands.measure_engines)
    engine_commands.add(partial(_command, commands), _add_profile)
    return parser


def _version() -> str:
    try:
        return metadata.version("waldo-study")
    except metadata.PackageNotFoundError:  # a copy of the folder, without an installation
        return "(not installed)"


def _command(
    commands: argparse._SubParsersAction,
    name: str,
    function: Callable[[argparse.Namespace], int],
    summary: str,
    more: str = "",
    example: str = "",
) -> argparse.ArgumentParser:
    """Add a command whose help is its summary, what else there is to say, and one example."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {more}",
        epilog=f"example:\n  %(prog)s {example}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.description = "\n".join(textwrap.wrap(parser.description, width=96))
    parser.set_defaults(function=function)
    return parser


def _add_profile(parser: argparse.ArgumentParser, what: str = "its settings") -> None:
    parser.add_argument(
        "--profile", default="mini", metavar="NAME", help=f"{what}: {', '.join(PROFILES)} (default: mini)"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="efficientnet_lite0",
        metavar="NAME",
        help="efficientnet_lite0, resnet50, timm:NAME, runs/NAME (yours), or a profile: "
        f"{', '.join(PROFILES)} (default: efficientnet_lite0, which needs no download)",
    )


def _add_study(commands: argparse._SubParsersAction) -> None:
    run = _command(
        commands, "run", _run, "run the notebooks, only what changed",
        "A notebook runs again when its code, its settings, the package's code that it imports or the photos "
        "changed, or what it wrote is gone. Tables, figures and the report are in results/.",
        "--profile smoke",
    )  # fmt: skip
    _add_profile(run)
    run.add_argument("--force", action="store_true", help="run everything again")
    run.add_argument(
        "--measure", action="store_true", help="run everything again, and renew the times that are kept"
    )
    run.add_argument("--only", metavar="NOTEBOOK", help="run a single notebook, for example 09_results")
    run.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="another notebook parameter"
    )
    status = _command(
        commands, "status", _status, "say which notebooks are up to date",
        "Nothing is run and nothing is written.", "--profile smoke",
    )  # fmt: skip
    _add_profile(status)
    plan = _command(
        commands, "plan", _plan, "predict what a profile takes on this machine",
        "Rates are measured in about a minute, on drawn photos; minutes, disk and memory follow by "
        "arithmetic. Nothing is run and nothing is written.", "--profile sop",
    )  # fmt: skip
    _add_profile(plan)
    _command(commands, "profiles", _profiles, "list the profiles", "A profile is one set of all settings.")
    evaluate = _command(
        commands, "evaluate", _evaluate,
        "say how good models are on photos of your own, or test a published checkpoint",
        "Each photo of FOLDER, whose sub-folders name products, or of a CSV file with the columns path, "
        "product and perhaps category and split, is searched among the others; a page and a JSON file are "
        "written. With --checkpoint: reproduces the paper without training, on the test photos of Stanford "
        "Online Products.",
        "my_photos --model efficientnet_lite0",
    )  # fmt: skip
    evaluate.add_argument(
        "source", type=given, nargs="?", metavar="FOLDER", help="of the photos, or a CSV file"
    )
    _add_model(evaluate)
    evaluate.add_argument(
        "--checkpoint", type=given, metavar="FILE", help="published reranking checkpoint (.pt)"
    )
    evaluate.add_argument(
        "--global-checkpoint",
        type=given,
        metavar="FILE",
        help="published global checkpoint, which gives the shortlist (default: the checkpoint's own)",
    )
    evaluate.add_argument(
        "--data",
        type=given,
        metavar="FOLDER",
        help="of the photos, or their zip file (default: WALDO_DATA)",
    )
    evaluate.add_argument(
        "--depth", type=int, default=100, metavar="N", help="neighbors reranked per query (default: 100)"
    )
    evaluate.add_argument(
        "--output",
        type=given,
        metavar="FOLDER",
        help="folder of the page (default: below data/evaluations); with --checkpoint: a .csv for the table",
    )
    readme = _command(
        commands, "readme", _readme, "write the README's tables and the pages of results/",
        "So no figure in them is typed.", "--check",
    )  # fmt: skip
    readme.add_argument("--check", action="store_true", help="only say whether they agree")


def _add_photos(commands: argparse._SubParsersAction) -> None:
    index = _command(
        commands, "index", _index, "make or update the index of a folder of photos",
        "Sub-folders name products. The same command again takes in what was added, changed or removed.",
        "my_photos --output my_index",
    )  # fmt: skip
    index.add_argument("folder", type=given, nargs="?", metavar="FOLDER", help="of the photos")
    index.add_argument(
        "--output", type=given, metavar="FOLDER", help="of the index (default: one below data/indexes)"
    )
    _add_model(index)
    engine_commands.add_parts(index)
    search = _command(
        commands, "search", _search, "find the product of a photo in an index",
        "Prints the matches in order, each with its rank before reranking, and whether the product is "
        "probably in the catalogue.",
        "photo.jpg --crop 40,60,300,320 --output matches.png",
    )  # fmt: skip
    search.add_argument("photo", type=given, nargs="?", metavar="PHOTO")
    search.add_argument(
        "--many", type=given, metavar="FOLDER", help="search each photo of a folder instead; gives CSV"
    )
    search.add_argument("--crop", metavar="X,Y,W,H", help="left, top, width, height in pixels (default: all)")
    search.add_argument("--top", type=int, default=10, metavar="N", help="matches to show (default: 10)")
    search.add_argument(
        "--index", type=given, metavar="FOLDER", help="of the index (default: the one that was made last)"
    )
    search.add_argument(
        "--output", type=given, metavar="FILE", help="a .png for a picture of the matches; with --many a .csv"
    )
    search.add_argument("--json", action="store_true", help="print JSON")
    search.add_argument(
        "--engine",
        type=given_or_address,
        metavar="URL",
        help="ask Qdrant for the shortlist: the address `publish` put the index to",
    )
    demo = _command(
        commands, "demo", _demo, "open the demo as a page",
        "Choose or upload a photo, drag a box, see its matches. One process serves all visits; no other "
        "machine takes part.",
        "--index work/index",
    )  # fmt: skip
    what = demo.add_mutually_exclusive_group()
    what.add_argument(
        "--profile",
        metavar="NAME",
        help=f"whose photos and models: {', '.join(PROFILES)} (default: that of real photos where it was "
        "run, else mini)",
    )
    what.add_argument("--index", type=given, metavar="FOLDER", help="search this index instead")
    demo.add_argument(
        "--ip",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0: all of this machine (default: 127.0.0.1)",
    )
    demo.add_argument(
        "--port",
        type=int,
        default=8866,
        metavar="N",
        help="of the page, or the next that is free (default: 8866)",
    )
    demo.add_argument(
        "--base-url",
        default="/",
        help="path of the page, for a proxy that keeps it (default: /)",
    )
    demo.add_argument("--no-browser", action="store_true", help="only serve the page")


# ---------------------------------------------------------------- what then happens


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


def _plan(options: argparse.Namespace) -> int:
    study = pipeline.find_profile(options.profile)

    from waldo_utils.run import plan

    print(plan.report(study))
    return 0


def _profiles(options: argparse.Namespace) -> int:
    for study in PROFILES.values():
        print(f"{study.name:8} {study.summary}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    if options.source and not options.checkpoint:
        return own.evaluate(options.source, options.model, options.output)
    if options.source or not options.checkpoint:
        raise ValueError("evaluate takes a FOLDER of photos, or --checkpoint FILE: give one of the two")
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

    if options.shard or options.merge or options.ray:
        return engine_commands.index_in_parts(options)
    if options.folder is None:
        raise ValueError("index needs the FOLDER of the photos")
    output = options.output or index_files.default_output(options.folder, options.model)
    done = index_files.unchanged(options.folder, output, options.model)
    if done:
        summary, weights = done
        print(f"models: {weights}")
    else:
        from waldo_utils.app import index, searching

        models = searching.open_models(options.model)
        print(f"models: {models.weights}", flush=True)
        summary = index.update(options.folder, output, models, options.model)
    print(
        f"{summary.added} added, {summary.changed} changed, {summary.removed} removed, {summary.kept} as "
        f"before, {len(summary.unreadable)} left out"
    )
    for entry in summary.unreadable[:20]:
        print(f"left out: {faults.printable(entry.fault)}")
    if len(summary.unreadable) > 20:
        print(f"... and {len(summary.unreadable) - 20} more")
    if summary.passed:
        print(summary.passed)
    print(f"index: {output}")
    where = (
        ""
        if output == index_files.default_output(options.folder, options.model)
        else f" --index {shlex.quote(str(output))}"
    )
    print(f"search it: {_parser().prog} search PHOTO{where}")
    return 0


def _search(options: argparse.Namespace) -> int:
    import json

    from waldo_utils.app import index, index_files, rejection, searching
    from waldo_utils.data import reading
    from waldo_utils.figures import grids, style

    if options.top < 1:
        raise ValueError(f"--top {options.top} shows nothing: choose 1 or more")
    if (options.photo is None) == (options.many is None):
        raise ValueError("search takes a PHOTO, or --many FOLDER: give one of the two")
    _check_output(options.output, ".csv" if options.many else ".png", options.photo)
    if options.many:
        if options.crop or options.json:
            raise ValueError("--crop and --json are for one photo: leave them out with --many")
        return own.search_many(
            options.many, options.index or index_files.newest(), options.output, options.top
        )
    if not options.photo.exists():
        raise ValueError(f"there is no photo {options.photo}: correct the path")
    folder = options.index or index_files.newest()
    box = None if options.crop is None else searching.parse_box(options.crop)
    photo = reading.read_photo(options.photo)
    models = searching.open_models(index.profile_of(folder))
    opened = index.open_index(folder, models)
    answer = engine_commands.search(options.engine, folder, models, opened.gallery, photo, box)
    table = searching.matches(answer, opened.gallery, options.top)
    texts = ("name", "product", "category")
    shown = table.assign(**{column: table[column].map(faults.printable) for column in texts})
    margin = opened.threshold.margin(answer, opened.gallery) if opened.threshold else None
    verdict = rejection.sentence(opened.threshold, margin, models.reranker is not None)
    pictures = [opened.gallery.photo(row) for row in table.row] if options.output else []
    if options.output:
        style.save(grids.answer_grid(answer.query, pictures, shown), options.output)
    if gone := index.told_as_gone(opened, folder, table.row, pictures):
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
        share = "" if opened.share is None else f", {opened.share:.1%} of the exact neighbors are found"
        print(f"index: {folder} ({len(opened.gallery)} photos{share})\nmodels: {models.weights}\n{verdict}\n")
        print(shown.drop(columns="row").round({"score": 2, "similarity": 3}).to_string(index=False))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from waldo_utils.app import page

    study = pipeline.find_profile(options.profile) if options.profile else None
    browser = not options.no_browser
    return page.serve(study, options.index, options.ip, options.port, options.base_url, browser)


if __name__ == "__main__":
    sys.exit(main())
