"""The fixed images and prompts that every file is held to, with PyTorch's answers.

In: a predictor that is the reference. Out: `ImageCase`s, which `verify` compares with
and `bundle` writes down as golden vectors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.contract import Array
from mobilesam_export.predictor import Answer, EmbeddedImage, Predictor
from mobilesam_export.prompts import ImageArray, Prompt
from mobilesam_export.scenes import Scene, bounding_box, innermost_point, masked_scene

MASK_PROMPT = "click-mask"
# Where the reference's two best masks are closer than this in predicted IoU, rounding alone decides
# which of them is shown, and their comparison says nothing about a file.
CLEAR = 0.02
OBJECTS = 4  # of a scene that are tried for a clear answer, the largest first


@dataclass(frozen=True)
class PromptCase:
    """One prompt and what the reference answers.

    Attributes:
        name: "click", "clicks", "box", "box-click" or "click-mask".
        prompt: in pixels of the image.
        answer: the reference's.
    """

    name: str
    prompt: Prompt
    answer: Answer


@dataclass(frozen=True)
class ImageCase:
    """One image, its embedding by the reference, and its prompts."""

    name: str
    image: ImageArray
    embeddings: Array
    prompts: tuple[PromptCase, ...]

    @property
    def embedded(self) -> EmbeddedImage:
        """The image as the reference's encoder has seen it, for a decoder alone."""
        return EmbeddedImage(self.embeddings, prompts.height_and_width(self.image))


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
    predictor: Predictor, scenes: Mapping[str, Scene] | None = None
) -> tuple[ImageCase, ...]:
    """Ask the reference everything that files will be asked.

    Of each scene, about the largest object whose best mask is no near tie (see `CLEAR`).

    Args:
        predictor: the reference, with the contract of the files.
        scenes: by name, each with an object at least; None for those of `verify`.
    """
    scenes = scenes or verification_scenes(predictor.contract.image_size)
    return tuple(_image_case(name, scene, predictor) for name, scene in scenes.items())


def _image_case(name: str, scene: Scene, predictor: Predictor) -> ImageCase:
    image = predictor.embed(scene.image)

    def answer(label: str, prompt: Prompt) -> PromptCase:
        return PromptCase(label, prompt, predictor.predict(prompt, image))

    tried: list[list[PromptCase]] = []
    for mask in sorted(scene.masks, key=np.count_nonzero, reverse=True)[:OBJECTS]:
        tried.append(_object_cases(mask, predictor.contract.max_points, answer))
        if _lead(tried[-1]) >= CLEAR:
            break
    clearest = max(tried, key=_lead)
    return ImageCase(name, scene.image, image.embeddings, tuple(clearest))


def _object_cases(
    mask: NDArray[np.bool_], slots: int, answer: Callable[[str, Prompt], PromptCase]
) -> list[PromptCase]:
    """Every prompt for one object, and the first answer refined."""
    cases = [answer(*item) for item in object_prompts(mask, slots).items()]
    refined = replace(cases[0].prompt, mask_input=cases[0].answer.low_res_mask)
    return [*cases, answer(MASK_PROMPT, refined)]


def _lead(cases: Sequence[PromptCase]) -> float:
    """By how much the best of three masks is ahead, at least, where one of three is chosen."""
    leads = [np.inf]
    for case in cases:
        iou = np.sort(case.answer.outputs["iou_predictions"].ravel()[1:])
        if case.prompt.single_click and len(iou) > 1:
            leads.append(float(iou[-1] - iou[-2]))
    return min(leads)
