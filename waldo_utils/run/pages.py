"""Write the README and the pages of results/: a gallery, all tables of each profile, speed and memory."""

import json
import re
import sys
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd
from PIL import Image, ImageChops

from waldo_utils.disk.files import write_atomically
from waldo_utils.run import executed, markdown, pipeline, readme, resources
from waldo_utils.speed import benchmark
from waldo_utils.study import ROOT, find_profile

WRITTEN = "<!-- Written by `python -m waldo_utils readme`. -->"
THUMBNAILS, WIDTH = 3, 250  # of each notebook; a notebook ends with its result, so they are its last figures
PICTURE = ROOT / "results" / "before_after.png"
LONGEST = 60  # rows of a table that is shown whole
# What is first on a profile's page, with a title; other tables follow under their own names.
TITLES = {
    "main": "Main result",
    "differences": "Paired differences",
    "selection": "CO by protocol",
    "global": "CO",
    "openset": "Is the product in the gallery?",
    "not_in_catalogue": "The demo's answer: probably not in the catalogue",
    "catalogue_evidence": "What tells that a product is absent",
    "query_gallery": "Queries apart from the gallery",
    "transfer": "Transfer to products of unseen kinds",
    "categories": "By category",
    "transforms": "Transforms of the query, both stages seeing them",
    "training_transforms": "Transforms left out of the training",
    "depth_grid": "Depth by test input and flip",
    "baselines": "Baselines",
    "baseline_differences": "Baselines, paired differences",
    "fusion": "Reranker and global score added",
    "asymmetry": "The score both ways round",
    "asymmetry_differences": "The score both ways round, paired differences",
    "contradictions": "What the reported figures can mean",
    "product_or_place": "Product or place: products that share their places",
    "product_or_place_differences": "Product or place, paired differences",
    "product_or_place_own": "The same methods on the study's own test photos",
    "product_or_place_own_differences": "The same methods on the study's own test photos, paired differences",
    "patch_weights": "Share of the patch weights on the product",
    "duplicates": "Exact duplicates in the gallery",
    "rank_changes": "Moved furthest by reranking",
    "storage": "Bits of local features",
    "storage_differences": "Bits of local features, paired differences",
    "precision": "Precision of the reranker",
    "precision_differences": "Precision of the reranker, paired differences",
    "counts": "Photos and products",
    "search_speed": "One search, step by step",
    "speed_reranking": "Reranking, times",
    "speed_training": "A training step, times",
    "speed_batch_memory": "A training step, memory",
    "speed_search": "Exact search of a gallery in itself",
    "speed_depth": "Reranking by depth",
    "speed_indexes": "Approximate indexes",
    "speed_evaluation": "The whole test of Stanford Online Products, predicted",
    "speed_galleries": "A million photos and more, by arithmetic",
    "speed_engines": "Search by other engines, in this process",
    "index_scale": "An index of one's own photos, by size",
    "demo_latency": "Latency of the demo",
    "demo_servers": "What could serve the demo",
}

# What a table of times does not say itself.
NOTES = {
    "speed_engines": "One query at a time. `exact` is the study's own search: it checks all features of the "
    "gallery at each call, which costs more than to compare them.",
    "index_scale": "`copies` are copies of the photos of Grocery Store, each computed for itself; `drawn` "
    "are features of 1,280 numbers drawn around those of its photos. Seconds to make and to add are a whole "
    "process's, its start included. Memory counts mapped files, which the system takes back when needed.",
}


def update(root: Path = ROOT, check: bool = False) -> int:
    """Write the README's tables and all pages; with `check` only compare. Returns 0, or 1 if any differs."""
    texts = {
        root / "README.md": readme.filled(
            (root / "README.md").read_text(encoding="utf-8"), root / "README.md"
        )
    }
    texts[root / "results" / "README.md"] = gallery()
    texts[root / "results" / "benchmarks" / "README.md"] = benchmarks()
    for name in _ran():
        texts[root / "results" / name / "README.md"] = profile_page(name)
    differing = [
        path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    picture = first_picture()
    if picture is not None and not (PICTURE.exists() and _same(picture, Image.open(PICTURE))):
        differing.append(PICTURE)
    if check:
        names = ", ".join(str(path.relative_to(root)) for path in differing)
        print(
            f"differs from the tables: {names}" if names else "all pages agree with the tables",
            file=sys.stderr,
        )
        return int(bool(differing))
    for path in differing:
        if path == PICTURE:
            write_atomically(path, lambda partial: picture.save(partial, optimize=True))
        else:
            write_atomically(
                path, lambda partial, path=path: partial.write_text(texts[path], encoding="utf-8")
            )
    return 0


def gallery() -> str:
    """Return the page of all profiles: the last figures of each notebook, linked to its executed copy."""
    lines = [WRITTEN, "# Results", ""]
    lines.append(
        "Each picture leads to the executed notebook that drew it. Clock times and memory: "
        "[benchmarks](benchmarks). What was tried, failures too: [log](LOG.md). [Models](MODEL_CARD.md), "
        "[data](DATA_CARD.md), [checklist](CHECKLIST.md)."
    )
    for name in _ran():
        lines += ["", f"## `{name}`: {find_profile(name).summary}", ""]
        lines += [f"[All tables]({name}/README.md){_one_page(name, f'{name}/')}"]
        for stage in pipeline.STAGES:
            link = f"{name}/notebooks/{stage.stem}.ipynb"
            figures = shown_figures(ROOT / "results" / name, stage.stem)[-THUMBNAILS:]
            if figures:
                title, question = readme.head(ROOT / "notebooks" / f"{stage.stem}.ipynb")
                lines += ["", f"**[{title}]({link})** {question}", ""]
                lines += [
                    f'<a href="{link}"><img alt="{Path(figure).stem.replace("_", " ")}" '
                    f'src="{name}/figures/{figure}" width="{WIDTH}" align="top"></a>'
                    for figure in figures
                ]
    return "\n".join(lines) + "\n"


def _one_page(profile: str, place: str = "") -> str:
    """Return the link to a profile's report, where all its notebooks have run."""
    if not (ROOT / "results" / profile / "report.html").exists():
        return ""
    return f" · [the notebooks as one page]({place}report.html) (download it)"


def shown_figures(results: Path, stem: str) -> list[str]:
    """Return the file names of the saved figures that an executed notebook shows, found by their bytes."""
    path = results / "notebooks" / f"{stem}.ipynb"
    if not path.exists():
        return []
    saved = {executed.encoded(figure): figure.name for figure in sorted((results / "figures").glob("*.*"))}
    return [saved[picture] for picture in executed.pictures(path) if picture in saved]


def profile_page(name: str) -> str:
    """Return the page of a profile: all its tables, those of `TITLES` first, clock times last."""
    folder = ROOT / "results" / name / "tables"
    names = sorted(path.stem for path in folder.glob("*.csv"))
    timed = [table for table in names if any(Path(table).match(pattern) for pattern in resources.MEASURED)]
    untimed = [table for table in names if table not in timed]
    ordered = list(dict.fromkeys([*(table for table in TITLES if table in untimed), *untimed, *timed]))
    lines = [WRITTEN, f"# `{name}`: {find_profile(name).summary}", ""]
    lines.append(
        "Fractions in per cent, with 95 % intervals over products in brackets; differences in points. "
        f"[All profiles](../README.md){_one_page(name)}"
    )
    lines += ["", " · ".join(f"[{_title(table)}](#{_anchor(_title(table))})" for table in ordered)]
    for table in ordered:
        frame = readme.find_table(name, table)
        links = [f"[csv](tables/{table}.csv)"]
        if stem := _notebook_of(table):
            links.append(f"[notebook {stem[:2]}](notebooks/{stem}.ipynb)")
        lines += ["", f"## {_title(table)}", "", _readable(table, frame), "", " · ".join(links)]
        if table in timed and (facts := _machine(folder / f"{table}.json")):
            lines[-1] += f" · {facts}"
    return "\n".join(lines) + "\n"


def _readable(name: str, frame: pd.DataFrame) -> str:
    """Return a table for reading: paired differences one row a pair, the grid of transforms one row a
    transform."""
    if name == "transforms":
        frame = frame[
            (frame.stage == "both") | (frame.severity == "one level") & (frame.stage == "shortlist")
        ]
        key = ["transform", "severity", "stage"]
        cells = frame.assign(cell=[markdown.difference(row) for _, row in frame.iterrows()])
        wide = cells.pivot_table(index=key, columns="method", values="cell", aggfunc="first", sort=False)
        note = (
            f"R@1 minus that of the photos as they are, points; {frame.queries.iloc[0]:,} queries. "
            "The other stages: csv."
        )
        return markdown.table(wide.reset_index()) + f"\n\n{note}"
    if {"metric", "method", "baseline", "difference"} <= set(frame) and not frame.duplicated(
        ["metric", "method", "baseline"]
    ).any():
        cells = frame.assign(
            pair=frame.method + " minus " + frame.baseline,
            cell=[markdown.difference(row) for _, row in frame.iterrows()],
        )
        wide = cells.pivot(index="pair", columns="metric", values="cell")
        wide = wide.loc[cells.pair.unique(), frame.metric.unique()].fillna("").reset_index()
        return markdown.table(wide.rename(columns={"pair": "Paired difference, points (95 % interval)"}))
    if len(frame) > LONGEST:
        return f"{len(frame):,} rows: see the csv."
    return markdown.table(frame)


def benchmarks() -> str:
    """Return the page of clock times and memory: what each machine needed for each profile, search,
    reranking."""
    lines = [WRITTEN, "# Speed and memory", ""]
    lines.append(
        "One machine's each, kept until they are measured anew: `make study MEASURE=1`, "
        "`python -m waldo_utils benchmark --full`, `python -m waldo_utils.own.scale FOLDER`, `make memory`, "
        "`make demo-latency`. Only ratios travel."
    )
    lines += ["", "## What a whole run took", "", resource_table(), ""]
    lines.append(
        "`peak GB` is of the notebook that needed most, mapped files included, whose memory the system takes "
        "back when it is needed."
    )
    lines += ["", "## Reranking", "", speed_table(), ""]
    lines.append(
        "The textbook module is the published loop's way: every token of every layer, one rank at a time, "
        "3,000 pairs at once. Half of its time goes into memory: glibc asks the system anew for each large "
        "tensor. Small passes avoid that (second row), and so do the settings of the notebooks' kernels "
        "(`kernels.KEEP_MEMORY`): see `speed_reranking` of each profile. The rest of the gain is work left "
        "out (the last layer's tokens that nobody reads, the first layer's projections of a photo that many "
        "pairs share) and a library that reaches more of the matrix rate. "
        "The study's own tables are computed in float32."
    )
    for name in sorted(path.stem for path in benchmark.FOLDER.glob("*.csv")):
        if name in ("memory", "speed_reranking"):
            continue
        table, facts = benchmark.kept(name)
        if "depth" in table:  # what is timed before a search has none
            table = table.astype({"depth": object}).fillna({"depth": ""})
        if "MB" in table:  # of a visit only
            table = table.astype({"MB": object}).fillna({"MB": ""})
        said = ", ".join(
            f"{key} {facts[key]}" for key in ("processor", "threads", "torch", "date") if key in facts
        )
        lines += ["", f"## {_title(name)}", "", markdown.table(table), "", f"[csv]({name}.csv) · {said}"]
        lines += ["", NOTES[name]] if name in NOTES else []
    lines += ["", "## Memory", "", memory_table(), "", "[csv](memory.csv)", ""]
    lines.append(
        "The setting `micro_batch` trains a batch of 800 with the activations of a few photos (gradient "
        "caching; Gao et al. 2021, arXiv 2101.06983): the same gradients up to rounding."
    )
    return "\n".join(lines) + "\n"


def resource_table() -> str:
    """Return what whole runs took, one row per profile and machine."""
    parts = [resources.table(ROOT / "results" / name).assign(profile=name) for name in readme.KEPT]
    found = pd.concat([part for part in parts if len(part)] or [parts[0]], ignore_index=True)
    found = found[["profile", *(name for name in found if name != "profile")]]
    return (
        markdown.table(found)
        if len(found)
        else "Not measured yet: `make study` writes it when all notebooks ran."
    )


def speed_table(folder: Path = benchmark.FOLDER) -> str:
    """Return what `benchmark --full` measured of reranking, and what the precisions change in each
    profile."""
    speeds, facts = benchmark.kept("speed_reranking", folder)
    searches, _ = benchmark.kept("speed_search", folder)
    if not facts:
        return "not run"
    changes = {name: readme.find_table(name, "precision") for name in readme.SHOWN}
    changes = {name: table.set_index("method") for name, table in changes.items() if table is not None}
    size = speeds["size"].iloc[0]
    heads = [f"Reranking, {size}", "pairs at once", "times as fast", "share of the matrix rate", "memory"]
    heads += [f"other first neighbor, R@1, R@10: `{name}`" for name in changes]
    lines = []
    for _, row in speeds[(speeds["size"] == size) & speeds.ratio.notna()].iterrows():
        cells = [row.method, f"{row['pairs at once']:,.0f}", f"{row.ratio:.1f}"]
        cells += [f"{100 * row['share of matrix rate']:.0f} %", f"{row['peak MB']:,.0f} MB"]
        for table in changes.values():
            found = table.loc[row.method.removeprefix("scorer ")] if row.method.startswith("scorer") else None
            cells.append(
                "" if found is None else f"{100 * found['changed@1']:.1f} %, {readme.recalls(found, (1, 10))}"
            )
        lines.append(cells)
    last = searches.iloc[-1]
    return markdown.rows(heads, lines) + (
        f"\n\nMedians of turns in one run: {facts['processor']}, {facts['threads']} threads, torch "
        f"{facts['torch']}, {str(facts['date'])[:10]}. Exact search of {last.photos:,.0f} photos among "
        f"themselves, 101 neighbors: {last.seconds:.1f} s and {last['peak MB']:,.0f} MB."
    )


def memory_table(folder: Path = benchmark.FOLDER) -> str:
    """Return the peak memory of each stage that `make memory` measured, by the number of photos."""
    table, facts = benchmark.kept("memory", folder)
    if not facts:
        return "not run"
    grown = table[table.groupby("stage").scale.transform("count") > 1]
    peaks = grown.pivot(index="stage", columns="photos", values="peak MB").loc[grown.stage.unique()]
    heads = ["Peak memory, MB", *(f"{photos:,} photos" for photos in peaks.columns)]
    lines = [f"Of each figure, {table['imports MB'].median():,.0f} MB are Python with its libraries."]
    for _, row in table[~table.stage.isin(peaks.index)].iterrows():
        lines.append(
            f"{row.stage[0].upper()}{row.stage[1:]}: {row.photos:,} photos, {row['features MB']:,.0f} MB of "
            f"features, {row['peak MB']:,.0f} MB at the peak, mapped files counted."
        )
    cells = [[stage, *(f"{value:,.0f}" for value in row)] for stage, row in peaks.iterrows()]
    return markdown.rows(heads, cells) + "\n\n" + " ".join(lines)


def first_picture() -> Image.Image | None:
    """Return the first query of the picture before and after reranking, of real photos where they were
    run."""
    found = [ROOT / "results" / name / "figures" / "before_after.jpg" for name in ("photos", "mini")]
    for path in found:
        if path.exists():
            whole = Image.open(path)
            return whole.crop((0, 0, whole.width, _gap(whole)))
    return None


WHITE = 245  # at least so bright is a white line, as JPEG keeps it


def _gap(picture: Image.Image) -> int:
    """Return the first white line below the first quarter of a picture: there its first query ends."""
    grey = picture.convert("L")
    for y in range(grey.height // 4, grey.height):
        if grey.crop((0, y, grey.width, y + 1)).getextrema()[0] >= WHITE:
            return y
    return grey.height


def _same(picture: Image.Image, other: Image.Image) -> bool:
    first, second = picture.convert("RGB"), other.convert("RGB")
    return first.size == second.size and ImageChops.difference(first, second).getbbox() is None


def _ran() -> list[str]:
    return [name for name in readme.KEPT if readme.find_table(name, "main") is not None]


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " ").capitalize())


def _anchor(title: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _machine(record: Path) -> str:
    """Return on what a kept table of clock times was measured; "" where its record does not say."""
    facts = json.loads(record.read_text(encoding="utf-8")).get("machine")
    return "{processor}, {threads} threads, {device}, torch {torch}, {date}".format(**facts) if facts else ""


@cache
def _notebook_of(table: str) -> str:
    """Return the first notebook that names a table, which is the one that writes it; "" where none does."""
    for stage in pipeline.STAGES:
        cells = nbformat.read(ROOT / "notebooks" / f"{stage.stem}.ipynb", as_version=4).cells
        if any(f'"{table}"' in cell.source or f"{table}.csv" in cell.source for cell in cells):
            return stage.stem
    return ""
