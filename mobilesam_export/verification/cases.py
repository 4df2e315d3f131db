"""The fixed images and prompts that every file is held to, with PyTorch's answers.

In: a predictor that is the reference. Out: `ImageCase`s, which `verify` compares with
and `bundle` writes down as golden vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.contract import Array, Contract
from mobilesam_export.predictor import Answer, EmbeddedImage, Predictor
from mobilesam_export.prompts import ImageArray, Prompt
from mobilesam_export.scenes import Scene, bounding_box, innermost_point, masked_scene
from mobilesam_export.verification.photograph import Photograph, photograph

PORTRAIT, MASK_PROMPT = "portrait", "click-mask"
# Where the reference's two best masks are closer than this in predicted IoU, rounding alone decides
# which of them is shown, and their comparison says nothing about a file.
CLEAR = 0.02
OBJECTS = 4  # of a scene that are tried for a clear answer, the largest first

_Asked = tuple[str, Prompt, Mapping[str, Array]]  # a prompt's name, itself, the decoder's outputs


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
    """One image, its embedding by the reference, and its prompts.

    Attributes:
        name: "landscape" or "portrait" of those that `verify` uses.
        image: (height, width, 3) uint8 RGB, upright.
        embeddings: (1, 256, S/16, S/16) float32, the reference's.
        prompts: in pixels of the image.
        jpeg: the file that `image` was decoded from, or None if it comes from none.
    """

    name: str
    image: ImageArray
    embeddings: Array
    prompts: tuple[PromptCase, ...]
    jpeg: bytes | None = None

    @property
    def embedded(self) -> EmbeddedImage:
        """The image as the reference's encoder has seen it, for a decoder alone."""
        return EmbeddedImage(self.embeddings, prompts.height_and_width(self.image))


def verification_scenes(image_size: int) -> dict[str, Scene]:
    """A landscape and a portrait scene; both must be resized and padded on the way in.

    Args:
        image_size: longest side of the input in pixels.
    """
    small, large = image_size * 3 // 5, image_size * 4 // 5
    return {"landscape": masked_scene(1, small, large), PORTRAIT: masked_scene(2, large, small)}


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
        scenes: by name, each with an object at least; None for those of `verify`, of which the
            portrait is a photograph.
    """
    size, photographs = predictor.contract.image_size, {}
    if scenes is None:
        scenes = verification_scenes(size)
        photographs[PORTRAIT] = photograph(scenes[PORTRAIT].image, size)
    return tuple(
        _image_case(name, scene, photographs.get(name), predictor) for name, scene in scenes.items()
    )


def logits_spread(cases: Sequence[ImageCase]) -> float:
    """Standard deviation of the reference's mask logits, over all prompts."""
    answers = [item.answer for case in cases for item in case.prompts]
    return float(np.std([answer.outputs["low_res_masks"].ravel() for answer in answers]))


def _image_case(
    name: str, scene: Scene, photographed: Photograph | None, predictor: Predictor
) -> ImageCase:
    pixels, jpeg = scene.image, None
    if photographed is not None:
        pixels, jpeg = photographed.image, photographed.jpeg
    image = predictor.embed(pixels)
    tried: list[list[_Asked]] = []
    for mask in sorted(scene.masks, key=np.count_nonzero, reverse=True)[:OBJECTS]:
        tried.append(_ask(_object_prompts(mask, image, predictor.contract), image, predictor))
        if _lead(tried[-1]) >= CLEAR:
            break
    cases = tuple(
        PromptCase(label, prompt, predictor.answer(prompt, outputs, image.size))
        for label, prompt, outputs in max(tried, key=_lead)
    )
    return ImageCase(name, pixels, image.embeddings, cases, jpeg)


def _object_prompts(
    mask: NDArray[np.bool_], image: EmbeddedImage, contract: Contract
) -> dict[str, Prompt]:
    """The prompts for an object, from its mask at the image's size or a smaller one."""
    found = object_prompts(mask, contract.max_points)
    if mask.shape == image.size:
        return found
    return {name: _scaled(prompt, mask.shape, image.size) for name, prompt in found.items()}


def _scaled(prompt: Prompt, old: tuple[int, ...], new: tuple[int, int]) -> Prompt:
    """The prompt on an image of another (height, width), to a tenth of a pixel."""
    down, across = new[0] / old[0], new[1] / old[1]
    points = tuple((round(x * across, 1), round(y * down, 1), f) for x, y, f in prompt.points)
    if prompt.box is None:
        return Prompt(points)
    x0, y0, x1, y1 = prompt.box
    box = (round(x0 * across, 1), round(y0 * down, 1), round(x1 * across, 1), round(y1 * down, 1))
    return Prompt(points, box)


def _ask(asked: Mapping[str, Prompt], image: EmbeddedImage, predictor: Predictor) -> list[_Asked]:
    """The decoder's outputs to every prompt for one object, and to the first answer refined."""
    found: list[_Asked] = [
        (name, prompt, predictor.decode(prompt, image)) for name, prompt in asked.items()
    ]
    if predictor.contract.fused:
        return found  # it takes no mask
    _, first, outputs = found[0]
    answer = predictor.answer(first, outputs, image.size)
    refined = replace(first, mask_input=answer.low_res_mask)
    return [*found, (MASK_PROMPT, refined, predictor.decode(refined, image))]


def _lead(asked: Sequence[_Asked]) -> float:
    """By how much the best of three masks is ahead, at least, where one of three is chosen."""
    leads = [np.inf]
    for _, prompt, outputs in asked:
        iou = np.sort(outputs["iou_predictions"].ravel()[1:])
        if prompt.single_click and len(iou) > 1:
            leads.append(float(iou[-1] - iou[-2]))
    return min(leads)
