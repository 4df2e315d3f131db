"""Does a rectangle find the masks that the model finds on the square, as it was trained?

Files of a rectangle are held to PyTorch on the same rectangle. How far that is from the square is
another question, which the margin decides, and which is answered on generated scenes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mobilesam_export.contract.frame import Frame
from mobilesam_export.metrics import mask_iou
from mobilesam_export.predictor import Predictor
from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import Scene, bounding_box, innermost_point, masked_scene

SCENES = 6
GOOD = 0.98  # mean IoU; below it a larger margin is worth a thought


@dataclass(frozen=True)
class SquareAgreement:
    """How well the masks of a rectangle and of the square agree.

    Attributes:
        objects: each asked for by click and by box.
        click: mean IoU of the masks.
        box: the same.
        worst: the least of all.
    """

    objects: int
    click: float
    box: float
    worst: float

    def summary(self) -> str:
        """One line for people."""
        return (
            f"against the square mask IoU by click {self.click:.3f}, by box {self.box:.3f}, "
            f"worst {self.worst:.3f} of {self.objects} objects"
        )

    @property
    def good(self) -> bool:
        """Whether both means are what users would take for the same masks."""
        return min(self.click, self.box) >= GOOD


def scenes(frame: Frame, count: int = SCENES) -> Iterable[Scene]:
    """Generated scenes of the rectangle's shape, which the demo weights were not trained on."""
    return (masked_scene(seed, *frame.shape) for seed in range(count))


def agreement(square: Predictor, rectangle: Predictor, images: Iterable[Scene]) -> SquareAgreement:
    """Ask both for every object.

    Args:
        square: PyTorch on the model's square.
        rectangle: PyTorch, or files, of the same weights.
        images: with an object at least.
    """
    found: dict[str, list[float]] = {"click": [], "box": []}
    for scene in images:
        embedded = square.embed(scene.image), rectangle.embed(scene.image)
        for mask in scene.masks:
            asked = {
                "click": Prompt(((*innermost_point(mask), True),)),
                "box": Prompt(box=bounding_box(mask)),
            }
            for kind, prompt in asked.items():
                masks = (
                    predictor.predict(prompt, image).mask
                    for predictor, image in zip((square, rectangle), embedded, strict=True)
                )
                found[kind].append(mask_iou(*masks))
    click, box = found["click"], found["box"]
    return SquareAgreement(
        len(click), float(np.mean(click)), float(np.mean(box)), min(*click, *box)
    )
