"""The official model's answers on seeded weights, `tests/data/golden.npz`.

Made once with the official SamPredictor (ChaoningZhang/MobileSAM, vit_t, CPU, float32) on
`seeded_state_dict(0)`, with `eval()` called after loading.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilesam_export.prompts import ImageArray, Prompt

PATH = Path(__file__).parents[1] / "tests" / "data" / "golden.npz"


@dataclass(frozen=True)
class GoldenPrompt:
    """One prompt and the official answer.

    Attributes:
        prompt: without the mask prompt.
        from_previous: whether the best logits of the prompt before are its mask prompt.
        multimask: whether tokens 1..3 are returned, or token 0.
        low_res_sub: `[0, :, ::4, ::4]` of the (1, 4, 256, 256) logits.
        iou: (4,) predicted IoU.
        best: index among the returned masks.
        best_mask: (height, width) bool.
    """

    prompt: Prompt
    from_previous: bool
    multimask: bool
    low_res_sub: NDArray[np.float32]
    iou: NDArray[np.float32]
    best: int
    best_mask: NDArray[np.bool_]

    @property
    def token(self) -> int:
        """Index of the best among all four masks."""
        return 1 + self.best if self.multimask else 0


@dataclass(frozen=True)
class GoldenImage:
    """One image, its prompts, and `[0, ::8, ::4, ::4]` of its (1, 256, 64, 64) embedding."""

    image: ImageArray
    input_sub: NDArray[np.float32]
    embedding_sub: NDArray[np.float32]
    prompts: tuple[GoldenPrompt, ...]


def wave_image(height: int, width: int, seed: int) -> ImageArray:
    """The (height, width, 3) uint8 image that golden vectors are about: six plane waves."""
    random = np.random.RandomState(seed)
    rows, columns = np.mgrid[0:height, 0:width] / 100.0
    total = np.zeros((height, width, 3))
    for _ in range(6):
        across, down = random.uniform(-6, 6), random.uniform(-6, 6)
        wave = np.sin(across * columns + down * rows + random.uniform(0, 6.283))
        total += wave[..., None] * random.uniform(0.3, 1, 3)
    return np.clip(np.floor(127.5 + 40 * total), 0, 255).astype(np.uint8)


def load() -> tuple[GoldenImage, ...]:
    """Both images with all their prompts."""
    with np.load(PATH) as data:
        return tuple(_image(dict(data), name) for name in ("c0", "c1"))


def _image(data: dict[str, NDArray[Any]], name: str) -> GoldenImage:
    height, width, seed = (int(number) for number in data[f"{name}_image_hws"])
    return GoldenImage(
        image=wave_image(height, width, seed),
        input_sub=data[f"{name}_input_sub"],
        embedding_sub=data[f"{name}_emb_sub"],
        prompts=tuple(_prompts(data, name, (height, width))),
    )


def _prompts(
    data: dict[str, NDArray[Any]], name: str, size: tuple[int, int]
) -> Iterator[GoldenPrompt]:
    count = sum(key.startswith(f"{name}_p") and key.endswith("_best") for key in data)
    for number in range(count):
        fields = {
            key: data[f"{name}_p{number}_{key}"]
            for key in ("points", "labels", "box", "multimask", "mask_from_previous", "best")
        }
        points = zip(fields["points"].reshape(-1, 2), fields["labels"], strict=True)
        clicks = tuple((float(x), float(y), bool(label)) for (x, y), label in points)
        x0, y0, x1, y1 = fields["box"] if fields["box"].size else (0, 0, 0, 0)
        box = (float(x0), float(y0), float(x1), float(y1)) if fields["box"].size else None
        packed = data[f"{name}_p{number}_best_mask_packed"]
        bits = np.unpackbits(packed.ravel(), count=size[0] * size[1])
        yield GoldenPrompt(
            prompt=Prompt(clicks, box),
            from_previous=bool(fields["mask_from_previous"]),
            multimask=bool(fields["multimask"]),
            low_res_sub=data[f"{name}_p{number}_low_res_sub"],
            iou=data[f"{name}_p{number}_iou"].ravel(),
            best=int(fields["best"]),
            best_mask=bits.reshape(size).astype(bool),
        )
