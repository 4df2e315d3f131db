"""The golden vectors of a bundle, computed by `MobileSAM` and compared with what PyTorch computed.

python mobilesam.py
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mobilesam import MobileSAM, open_image
from numpy.typing import NDArray


@dataclass(frozen=True)
class Check:
    """One golden prompt, or the encoder on one golden image.

    Attributes:
        name: IMAGE or IMAGE/PROMPT.
        figures: what was measured, in words.
        passed: whether it keeps the limits in the bundle's manifest.
    """

    name: str
    figures: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.name:<22} {'ok' if self.passed else 'MISSED':<7} {self.figures}"


def check_golden(sam: MobileSAM) -> Iterator[Check]:
    """Compute every golden image and prompt; the last image stays the current one.

    Raises:
        BundleFileError: a golden file is missing or damaged.
    """
    golden = json.loads(sam.verified("golden/golden.json").read_text(encoding="utf-8"))
    for image in golden["images"]:
        yield _check_image(sam, image)
        for prompt in image["prompts"]:
            yield _check_prompt(sam, prompt, f"{image['name']}/{prompt['name']}")


def _check_image(sam: MobileSAM, image: Mapping[str, Any]) -> Check:
    """The encoder's input and output: largest difference in 1/255, and PSNR."""
    limits = sam.manifest["limits"]
    path = sam.verified(f"golden/{image['file']}")
    (pixels,), (embeddings,) = (
        [_tensor(sam, item) for item in image["encoder"][key]] for key in ("inputs", "outputs")
    )
    (found,) = sam.contract.encoder_inputs(open_image(path)).values()
    error = int(np.abs(found.astype(int) - pixels.astype(int)).max())
    psnr_db = _psnr_db(sam.set_image(path), embeddings)
    good = error <= limits["preprocessing"]["max"] and psnr_db >= limits["encoder"]["psnr_db"]
    return Check(image["name"], f"input {error}/255, embedding {psnr_db:.1f} dB", good)


def _check_prompt(sam: MobileSAM, prompt: Mapping[str, Any], name: str) -> Check:
    """Intersection over union of the mask with PyTorch's."""
    inputs = {item["name"]: item for item in prompt["inputs"]}
    earlier = _tensor(sam, inputs["mask_input"]) if "mask_input" in inputs else None
    mask = sam.segment(prompt["points"], prompt["box"], earlier).mask
    expected = np.asarray(open_image(sam.verified(f"golden/{prompt['mask']}")))[..., 0] > 0
    union = int((mask | expected).sum())
    iou = int((mask & expected).sum()) / union if union else 1.0
    return Check(name, f"mask IoU {iou:.4f}", iou >= sam.manifest["limits"]["mask"]["iou"])


def _tensor(sam: MobileSAM, item: Mapping[str, Any]) -> NDArray[Any]:
    path = sam.verified(f"golden/{item['file']}")
    return np.fromfile(path, np.dtype(item["dtype"]).newbyteorder("<")).reshape(item["shape"])


def _psnr_db(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """10 log10(peak**2 / mean squared error), the peak being PyTorch's largest absolute value."""
    error = float(np.mean((found.astype(np.float64) - expected) ** 2))
    peak = float(np.abs(expected).max())
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))
