"""The fixed pictures and prompts that every file is held to, with PyTorch's answers.

In: the model and the contract of the files. Out: `PictureCase`s, which `verify` compares with
and `bundle` writes down as golden vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.contract import Array, Contract, Session
from mobilesam_export.prompts import Picture, Prompt
from mobilesam_export.scenes import scene

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


def verification_pictures(image_size: int) -> dict[str, Picture]:
    """A landscape and a portrait scene; both must be resized and padded on the way in."""
    small, large = image_size * 3 // 5, image_size * 4 // 5
    return {"landscape": scene(1, small, large), "portrait": scene(2, large, small)}


def verification_prompts(height: int, width: int, slots: int) -> dict[str, Prompt]:
    """One click, three clicks, a box, a box and a click, as far as `slots` allows."""
    click = (0.4 * width, 0.5 * height, True)
    clicks = (click, (0.6 * width, 0.7 * height, True), (0.1 * width, 0.1 * height, False))
    box = (0.25 * width, 0.2 * height, 0.8 * width, 0.75 * height)
    every = {
        "click": Prompt((click,)),
        "clicks": Prompt(clicks),
        "box": Prompt(box=box),
        "box-click": Prompt((click,), box),
    }
    return {name: prompt for name, prompt in every.items() if prompt.slots <= slots}


def reference_cases(sessions: Sequence[Session], contract: Contract) -> tuple[PictureCase, ...]:
    """Ask the reference sessions (encoder, decoder) everything that files will be asked."""
    pictures = verification_pictures(contract.image_size)
    return tuple(
        _picture_case(name, picture, sessions, contract) for name, picture in pictures.items()
    )


def _picture_case(
    name: str, picture: Picture, sessions: Sequence[Session], contract: Contract
) -> PictureCase:
    encoder, decoder = sessions
    size = prompts.picture_size(picture)
    embeddings = encoder.run(prompts.encoder_inputs(picture, contract))["image_embeddings"]
    slots = 6 if contract.dynamic else contract.points

    def answer(label: str, prompt: Prompt) -> PromptCase:
        outputs = decoder.run(prompts.decoder_inputs(prompt, embeddings, size, contract))
        mask = prompts.final_mask(prompt, outputs, size, contract)
        return PromptCase(label, prompt, outputs, mask)

    cases = [answer(*item) for item in verification_prompts(*size, slots).items()]
    earlier = cases[0].outputs["low_res_masks"]
    index = (
        0
        if contract.dynamic
        else prompts.chosen_index(cases[0].prompt, cases[0].outputs["iou_predictions"])
    )
    refined = replace(cases[0].prompt, mask_input=earlier[:, index : index + 1])
    cases.append(answer(MASK_PROMPT, refined))
    return PictureCase(name, picture, embeddings, tuple(cases))
