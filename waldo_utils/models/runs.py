"""Models trained on a folder of one's own, kept under a name of its owner's choice."""

import json
from pathlib import Path

from waldo_utils.disk.files import write_atomically
from waldo_utils.disk.homes import WORK
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.starting_weights import check_architecture
from waldo_utils.models.weight_files import load_tensors

PREFIX = "runs/"
HOME = WORK / "data" / "runs"


def folder_of(name: str) -> Path:
    """Return the folder of a training's "runs/NAME", below the project's data.

    Raises:
        ValueError: the name is none for a folder.
    """
    plain = name.removeprefix(PREFIX)
    if not plain or Path(plain).name != plain or plain.startswith("."):
        raise ValueError(f"{plain!r} is no name for a training: choose one of letters, numbers, - and _")
    return HOME / plain


def save(name: str, model: ImageModel, facts: dict) -> Path:
    """Keep an image model without projections, and what is to be said of it.

    Args:
        name: "runs/NAME" or NAME.
        model: on any device.
        facts: of the training, for JSON; `backbone` and `size` (of photos, in pixels) are read again.
    """
    from safetensors.torch import save_file

    folder = folder_of(name)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    text = json.dumps(facts, indent=1)
    write_atomically(folder / "weights.safetensors", lambda partial: save_file(tensors, partial))
    write_atomically(folder / "run.json", lambda partial: partial.write_text(text, encoding="utf-8"))
    return folder


def forget(name: str) -> None:
    """Remove a finished training, if there is one; one that was begun stays."""
    for file in ("run.json", "weights.safetensors"):
        (folder_of(name) / file).unlink(missing_ok=True)


def load(name: str) -> tuple[ImageModel, dict]:
    """Return the image model and the facts that `save` kept.

    Raises:
        FileNotFoundError: there is no such training, or it has not ended; lists those there are.
        ValueError: what it left is damaged.
    """
    folder = folder_of(name)
    if not (folder / "run.json").is_file():
        there = ", ".join(sorted(f"{PREFIX}{path.parent.name}" for path in HOME.glob("*/run.json")))
        raise FileNotFoundError(
            f"there is no finished training {PREFIX}{folder.name}: choose {there or 'another model'}, or"
            f" train it with `python -m waldo_utils train FOLDER --name {folder.name}`"
        )
    remedy = f"remove {folder} and train again"
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        backbone, size = str(facts["backbone"]), int(facts["size"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'run.json'} is damaged ({error}): {remedy}") from None
    model = ImageModel(backbone, dim=None)
    tensors = load_tensors(folder / "weights.safetensors")
    check_architecture(model, tensors, folder / "weights.safetensors")
    model.load_state_dict(tensors)
    return model, facts | {"size": size}
