"""Golden vectors: images, prompts, and what PyTorch makes of them, to check on a device.

Tensors are raw, little-endian, in C order, without a header; `golden.json` gives name, shape and
type of each. Masks are PNG; an image is PNG, or the JPEG file that its pixels were decoded from.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilesam_export import prompts
from mobilesam_export.contract import EMPTY, Array, Contract
from mobilesam_export.contract.specs import apart_arrays, fused_arrays
from mobilesam_export.errors import BundleError, ImageError
from mobilesam_export.images import load_image, read_image
from mobilesam_export.predictor import Answer
from mobilesam_export.verification.cases import ImageCase, PromptCase

INDEX = "golden.json"


def write(folder: Path, cases: Sequence[ImageCase], contract: Contract) -> None:
    """Write images with all their prompts into a new folder.

    Args:
        folder: is made here; each image gets a folder of its name in it.
        cases: with PyTorch's answers.
        contract: of the files that are to be compared.
    """
    folder.mkdir()
    index: dict[str, Any] = {"images": [_write_image(folder, case, contract) for case in cases]}
    if contract.sets:
        index["prompt_sets"] = _prompt_sets(contract)
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _prompt_sets(contract: Contract) -> Any:  # noqa: ANN401 JSON
    """How the prompts of an image fill `decoder_batch`, whose answers are those of each alone."""
    empty = {"point_coords": 0, "point_labels": EMPTY, "mask_input": 0, "has_mask_input": 0}
    return {
        "count": contract.sets,
        "sets": "the inputs of an image's prompts, in their order",
        "rest": empty,
        "outputs": "of each set those of its prompt, whatever the other sets are",
    }


def _write_image(folder: Path, case: ImageCase, contract: Contract) -> dict[str, Any]:
    (folder / case.name / "encoder").mkdir(parents=True)
    file = f"{case.name}/image.{'png' if case.jpeg is None else 'jpg'}"
    if case.jpeg is None:
        Image.fromarray(case.image).save(folder / file)
    else:
        (folder / file).write_bytes(case.jpeg)
    height, width = prompts.height_and_width(case.image)
    return {
        "name": case.name,
        "file": file,
        "width": width,
        "height": height,
        "orientation": read_image(folder / file).orientation,
        "encoder": _write_encoder(folder, case, contract),
        "prompts": [_write_prompt(folder, case, item, contract) for item in case.prompts],
    }


def _write_encoder(folder: Path, case: ImageCase, contract: Contract) -> dict[str, Any]:
    """What goes in and out of it once per image, or into the whole of a fused file."""
    group, inputs = f"{case.name}/encoder", prompts.encoder_inputs(case.image, contract)
    outputs = {"image_embeddings": case.embeddings}
    if contract.fused:
        inputs, outputs = fused_arrays(inputs), {}
    return {"inputs": _tensors(folder, group, inputs), "outputs": _tensors(folder, group, outputs)}


def _write_prompt(
    folder: Path, case: ImageCase, item: PromptCase, contract: Contract
) -> dict[str, Any]:
    size = prompts.height_and_width(case.image)
    inputs = prompts.decoder_inputs(item.prompt, case.embeddings, size, contract)
    del inputs["image_embeddings"]  # the encoder's output, written once
    if item.prompt.mask_input is None:
        inputs.pop("mask_input", None)  # zeros
    outputs = item.answer.outputs
    if contract.fused:
        inputs, outputs = fused_arrays(inputs), fused_arrays(outputs)
    group = f"{case.name}/{item.name}"
    (folder / group).mkdir()
    Image.fromarray(item.answer.mask).save(folder / group / "mask.png")
    return {
        "name": item.name,
        "points": [[x, y, int(inside)] for x, y, inside in item.prompt.points],
        "box": item.prompt.box,
        "inputs": _tensors(folder, group, inputs),
        "outputs": _tensors(folder, group, outputs),
        "chosen_mask": item.answer.index,
        "mask": f"{group}/mask.png",
    }


def _tensors(folder: Path, group: str, arrays: Mapping[str, Array]) -> list[dict[str, Any]]:
    return [_tensor(folder, group, name, array) for name, array in arrays.items()]


def _tensor(folder: Path, group: str, name: str, array: Array) -> dict[str, Any]:
    file, dtype = f"{group}/{name}.{array.dtype}", array.dtype.newbyteorder("<")
    (folder / file).write_bytes(np.ascontiguousarray(array, dtype).tobytes())
    return {"name": name, "file": file, "shape": list(array.shape), "dtype": str(array.dtype)}


def read(folder: Path) -> tuple[ImageCase, ...]:
    """Read back what `write` has written, in the same order.

    Raises:
        BundleError: it is not there or not as written.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        cases = tuple(_read_image(folder, item) for item in index["images"])
    except (OSError, ValueError, KeyError, TypeError, ImageError) as exc:
        raise BundleError(f"{folder} has no golden vectors that can be read: {exc}") from exc
    if not cases:
        raise BundleError(f"{folder / INDEX} lists no image; export again")
    return cases


def _read_image(folder: Path, item: dict[str, Any]) -> ImageCase:
    encoder = item["encoder"]  # without outputs where the input goes into a fused file
    (embeddings,) = _arrays(folder, encoder["outputs"] or encoder["inputs"]).values()
    return ImageCase(
        name=item["name"],
        image=load_image(folder / item["file"]),
        embeddings=embeddings,
        prompts=tuple(_read_prompt(folder, prompt) for prompt in item["prompts"]),
    )


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
    found = {
        item["name"]: np.fromfile(
            folder / item["file"], np.dtype(item["dtype"]).newbyteorder("<")
        ).reshape(item["shape"])
        for item in tensors
    }
    return apart_arrays(found)
