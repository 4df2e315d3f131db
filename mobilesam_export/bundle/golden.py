"""Golden vectors: an image, prompts, and what PyTorch makes of them, to check on a device.

Tensors are raw, little-endian, in C order, without a header; `golden.json` gives name, shape and
type of each. Images and masks are PNG.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilesam_export import prompts
from mobilesam_export.contract import Array, Contract
from mobilesam_export.errors import BundleError
from mobilesam_export.predictor import Answer
from mobilesam_export.verification.cases import ImageCase, PromptCase


def write(folder: Path, case: ImageCase, contract: Contract) -> None:
    """Write one image with all its prompts into a new folder."""
    folder.mkdir()
    Image.fromarray(case.image).save(folder / "image.png")
    height, width = prompts.height_and_width(case.image)
    inputs = prompts.encoder_inputs(case.image, contract)
    index = {
        "image": {"file": "image.png", "width": width, "height": height},
        "encoder": {
            "inputs": _tensors(folder, "", inputs),
            "outputs": _tensors(folder, "", {"image_embeddings": case.embeddings}),
        },
        "prompts": [_prompt(folder, case, item, contract) for item in case.prompts],
    }
    (folder / "golden.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _prompt(folder: Path, case: ImageCase, item: PromptCase, contract: Contract) -> dict[str, Any]:
    size = prompts.height_and_width(case.image)
    asked = prompts.decoder_inputs(item.prompt, case.embeddings, size, contract)
    del asked["image_embeddings"]  # the encoder's output, written once
    if item.prompt.mask_input is None:
        del asked["mask_input"]  # zeros
    (folder / item.name).mkdir()
    Image.fromarray(item.answer.mask).save(folder / item.name / "mask.png")
    return {
        "name": item.name,
        "points": [[x, y, int(inside)] for x, y, inside in item.prompt.points],
        "box": item.prompt.box,
        "inputs": _tensors(folder, item.name, asked),
        "outputs": _tensors(folder, item.name, item.answer.outputs),
        "chosen_mask": item.answer.index,
        "mask": f"{item.name}/mask.png",
    }


def _tensors(folder: Path, group: str, arrays: Mapping[str, Array]) -> list[dict[str, Any]]:
    return [_tensor(folder, f"{group}/{name}".lstrip("/"), array) for name, array in arrays.items()]


def _tensor(folder: Path, stem: str, array: Array) -> dict[str, Any]:
    dtype = array.dtype.newbyteorder("<")
    name = f"{stem}.{array.dtype}"
    (folder / name).write_bytes(np.ascontiguousarray(array, dtype).tobytes())
    return {
        "name": stem.rpartition("/")[2],
        "file": name,
        "shape": list(array.shape),
        "dtype": str(array.dtype),
    }


def read(folder: Path) -> ImageCase:
    """Read back what `write` has written.

    Raises:
        BundleError: it is not there or not as written.
    """
    try:
        index = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
        (embeddings,) = _arrays(folder, index["encoder"]["outputs"]).values()
        cases = tuple(_read_prompt(folder, item) for item in index["prompts"])
        return ImageCase(folder.name, _pixels(folder / "image.png"), embeddings, cases)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise BundleError(f"{folder} has no golden vectors that can be read: {exc}") from exc


def _read_prompt(folder: Path, item: dict[str, Any]) -> PromptCase:
    inputs = _arrays(folder, item["inputs"])
    prompt = prompts.Prompt(
        tuple((x, y, bool(inside)) for x, y, inside in item["points"]),
        None if item["box"] is None else tuple(item["box"]),
        inputs.get("mask_input"),
    )
    mask = _pixels(folder / item["mask"]) > 0
    answer = Answer(_arrays(folder, item["outputs"]), int(item["chosen_mask"]), mask)
    return PromptCase(item["name"], prompt, answer)


def _pixels(path: Path) -> Array:
    with Image.open(path) as image:
        return np.array(image)


def _arrays(folder: Path, tensors: list[dict[str, Any]]) -> dict[str, Array]:
    return {
        item["name"]: np.fromfile(
            folder / item["file"], np.dtype(item["dtype"]).newbyteorder("<")
        ).reshape(item["shape"])
        for item in tensors
    }
