"""The fixed pictures and prompts that every file is held to, with PyTorch's answers.

In: the model and the contract of the files. Out: `PictureCase`s, which `verify` compares with
and `bundle` writes down as golden vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.contract import Array, Contract, Session
from mobilesam_export.prompts import Picture, Prompt
from mobilesam_export.scenes import Scene, bounding_box, innermost_point, masked_scene

MASK_PROMPT = "click-mask"


@dataclass(frozen=True)
class PromptCase:
    """One prompt and what the reference answers.

    Attributes:
        name: "click", "clicks", "box", "box-click" or "click-mask".
        prompt: in pixels of the picture.
        outputs: of the reference decoder, by name.
        mask: (height, width) bool, the final answer.
    """

    name: str
    prompt: Prompt
    outputs: dict[str, Array]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class PictureCase:
    """One picture, its embedding by the reference, and its prompts."""

    name: str
    picture: Picture
    embeddings: Array
    prompts: tuple[PromptCase, ...]


def verification_scenes(image_size: int) -> dict[str, Scene]:
    """A landscape and a portrait scene; both must be resized and padded on the way in."""
    small, large = image_size * 3 // 5, image_size * 4 // 5
    return {"landscape": masked_scene(1, small, large), "portrait": masked_scene(2, large, small)}


def object_prompts(mask: NDArray[np.bool_], slots: int) -> dict[str, Prompt]:
    """One click, three clicks, a box, a box and a click on one object, as far as `slots` allows.

    Args:
        mask: (height, width), of the object; not empty.
        slots: how many a prompt may take.
    """
    pixels = np.argwhere(mask)
    y, x = pixels[len(pixels) // 3]
    click = (*innermost_point(mask), True)
    clicks = (click, (float(x), float(y), True), (*innermost_point(~mask), False))
    box = bounding_box(mask)
    every = {
        "click": Prompt((click,)),
        "clicks": Prompt(clicks),
        "box": Prompt(box=box),
        "box-click": Prompt((click,), box),
    }
    return {name: prompt for name, prompt in every.items() if prompt.slots <= slots}


def reference_cases(
    sessions: Sequence[Session], contract: Contract, scenes: Mapping[str, Scene] | None = None
) -> tuple[PictureCase, ...]:
    """Ask the reference sessions (encoder, decoder) everything that files will be asked.

    Args:
        sessions: encoder and decoder of the reference.
        contract: of the files.
        scenes: by name, each with an object at least; None for those of `verify`.
    """
    scenes = scenes or verification_scenes(contract.image_size)
    return tuple(_picture_case(name, scene, sessions, contract) for name, scene in scenes.items())


def _picture_case(
    name: str, scene: Scene, sessions: Sequence[Session], contract: Contract
) -> PictureCase:
    encoder, decoder = sessions
    picture, size = scene.picture, prompts.picture_size(scene.picture)
    embeddings = encoder.run(prompts.encoder_inputs(picture, contract))["image_embeddings"]
    slots = 6 if contract.dynamic else contract.points

    def answer(label: str, prompt: Prompt) -> PromptCase:
        outputs = decoder.run(prompts.decoder_inputs(prompt, embeddings, size, contract))
        mask = prompts.final_mask(prompt, outputs, size, contract)
        return PromptCase(label, prompt, outputs, mask)

    largest = max(scene.masks, key=np.count_nonzero)
    cases = [answer(*item) for item in object_prompts(largest, slots).items()]
    earlier = cases[0].outputs["low_res_masks"]
    index = (
        0
        if contract.dynamic
        else prompts.chosen_index(cases[0].prompt, cases[0].outputs["iou_predictions"])
    )
    refined = replace(cases[0].prompt, mask_input=earlier[:, index : index + 1])
    cases.append(answer(MASK_PROMPT, refined))
    return PictureCase(name, picture, embeddings, tuple(cases))
