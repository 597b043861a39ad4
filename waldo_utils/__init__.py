"""The study "Where's Waldo? Instance-level image retrieval" as a library: what its notebooks call.

The few names that a program needs to find products in photos of its own:

- `PROFILES`: the settings of each profile of the study, by its name.
- `open_models(name)`: models by name: of a network with ImageNet's weights, of a training of one's own, or of
  a profile's notebooks.
- `update_index(folder, output, models, name)`: make or update the index of a folder of photos.
- `open_index(output, models)`: open it; its `.gallery` is what is searched.
- `read_photo(path)`: a photo, upright, in RGB.
- `search(models, gallery, photo, box=None)`: find the product in a crop of a photo.
- `matches(answer, gallery, top=10)`: the best matches of a search, as a table.
- `evaluate(folder, models, name)`: how good models are on photos of one's own; its `.figures` is a table.
- `train(folder, name, minutes)`: train on a folder; the models are "runs/NAME" then.
- `export(models, folder)`: write models as ONNX files for other programs.
- `run_study(study)`: run one profile's notebooks, only what changed.

They are looked up when they are first used: importing the package alone loads nothing.
"""

import importlib

# The dots of an import statement would make every notebook depend on all of this (see `pipeline.sources`).
_PLACES = {
    "PROFILES": ("study", "PROFILES"),
    "open_models": ("app.searching", "open_models"),
    "update_index": ("app.index", "update"),
    "open_index": ("app.index", "open_index"),
    "read_photo": ("data.reading", "read_photo"),
    "search": ("app.searching", "search"),
    "matches": ("app.searching", "matches"),
    "evaluate": ("own.evaluating", "evaluate"),
    "train": ("own.adapting", "train"),
    "export": ("own.exporting", "export"),
    "run_study": ("run.pipeline", "run"),
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> object:
    """Return one of the names above from the module that defines it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    """List the names above beside the package's own."""
    return sorted({*globals(), *__all__})
