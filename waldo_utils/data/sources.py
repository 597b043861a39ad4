"""Where a study's photos come from: the settings of its data stage to a checked manifest and a folder."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from waldo_utils.data import checks, manifests, places, real_photos
from waldo_utils.disk import artifacts
from waldo_utils.study import DataStage, RenderedSet, SharedPlaces


def open_source(settings: DataStage, folder: Path) -> tuple[pd.DataFrame, Path]:
    """Render or find the photos that the study trains and tests on.

    Args:
        settings: the data stage; `source` is "rendered", "photos", "sop" or "sop_form".
        folder: where rendered and gathered photos are kept, and `unreadable.csv`, the list of photos that
            break a rule.

    Returns:
        The checked manifest, validation products held out, and the folder that its paths are relative to.

    Raises:
        FileNotFoundError: a data set that cannot be made here is absent; the message says how to get it.
        ValueError: the source is unknown, the manifest breaks a rule of `manifests.check_manifest`, or "sop"
            has other counts than the published ones.
    """
    listing = folder / "unreadable.csv"
    if settings.source == "rendered":
        root = _rendered(settings.rendered, folder / "rendered_sop")
        manifest = checks.hold_out(manifests.sop_manifest(root), settings.hold_out, seed=0)
    elif settings.source == "photos":
        root = folder / "sets"
        rendered = manifests.sop_manifest(_rendered(settings.rendered, root / "rendered"))
        rendered = rendered.assign(path="rendered/" + rendered.path)
        manifest = real_photos.study_manifest(rendered, root, listing)
    elif settings.source in ("sop", "sop_form"):
        root = places.find_data("sop")
        manifest = manifests.sop_manifest(root)
        if settings.source == "sop":
            checks.check_sop_counts(manifest)
        manifest = checks.hold_out(manifest, settings.hold_out, seed=0)
    else:
        raise ValueError(f"unknown data source {settings.source!r}: choose rendered, photos, sop or sop_form")
    return checks.check_manifest(manifest, root, listing=listing), root


def _rendered(drawn: RenderedSet, folder: Path) -> Path:
    """Render a study's own products in the form of Stanford Online Products, or find them."""
    from waldo_utils.miniature.datasets import render_sop

    return render_sop(_ours(folder, drawn), **asdict(drawn))


def open_transfer(settings: DataStage, folder: Path) -> tuple[pd.DataFrame, Path]:
    """Render or find the photos of other kinds of products that trained models are carried over to.

    The same products are in its splits "train" and "test", or all photos are in "test"; nothing is trained on
    either.

    Raises:
        FileNotFoundError: Products-10k is absent; the message says how to get it.
        ValueError: the data stage has no transfer set.
    """
    listing = folder / "transfer_unreadable.csv"
    if settings.transfer == "grocery":
        manifest = real_photos.transfer_manifest(folder / "sets", listing)
        return checks.check_manifest(manifest, folder / "sets", listing=listing), folder / "sets"
    if settings.transfer == "rendered":
        from waldo_utils.miniature.datasets import render_products10k

        drawn = asdict(settings.rendered_transfer)
        del drawn["test_fraction"]  # every product is in both splits
        root = render_products10k(_ours(folder / "rendered_products10k", settings.rendered_transfer), **drawn)
    elif settings.transfer == "products10k":
        root = places.find_data("products10k")
    else:
        raise ValueError(
            f"unknown transfer set {settings.transfer!r}: choose rendered, grocery or products10k"
        )
    manifest = manifests.products10k_manifest(root)
    return checks.check_manifest(manifest, root, disjoint=False, listing=listing), root


def open_places(drawn: SharedPlaces, folder: Path) -> tuple[pd.DataFrame, Path]:
    """Render products that share their places, and return their checked manifest and the folder that its
    paths are relative to.

    Args:
        drawn: the settings of the set.
        folder: to render into; photos of other settings in there are removed first.
    """
    from waldo_utils.miniature.datasets import render_places

    root = render_places(_ours(folder, drawn), **asdict(drawn))
    return checks.check_manifest(manifests.places_manifest(root), root), root


def _ours(root: Path, drawn: RenderedSet | SharedPlaces) -> Path:
    """Return the study's own folder of a rendered set, removed first if it holds one of settings that have
    changed."""
    try:
        written = json.loads((root / "settings.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return root  # the renderer says what is wrong with it
    if any(written.get(name, value) != value for name, value in asdict(drawn).items()):
        with artifacts.writing(root):
            print(f"{root.name} holds photos of other settings: rendering it anew")
            shutil.rmtree(root)
    return root
