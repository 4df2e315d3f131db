"""Whether a recipe's noise comes from its weights, which training moves, or from what layers take.

    python -m benchmarks.recovery_noise

Encoders of the demo weights at 512, in simulation and before training, with both roundings, with
that of weights alone and with that of activations alone; held-out scenes.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.arithmetic import demo_weights
from benchmarks.tables import RESULTS
from mobilesam_export import metrics, prompts
from mobilesam_export.backends import reference
from mobilesam_export.backends.simulation import Simulation
from mobilesam_export.contract import plain_contract
from mobilesam_export.distillation.recovery import Damage, Recovery, damage_of
from mobilesam_export.files import write_json
from mobilesam_export.graphs import Graph
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.scenes import TRAINING_SEEDS, scene, shape
from mobilesam_export.target import load_target

RESULT = RESULTS / "recovery_noise.json"
RECIPES = ("onnx:w4", "coreml:w8a8", "onnx:w8a8", "onnx:w8-dynamic")
SIDE, SCENES = 512, 12


@dataclass(frozen=True)
class Part(Damage):
    """A part of what a recipe does: `left_out` is a field of `Simulation`."""

    left_out: str = ""

    def simulation(self, encoder: Graph) -> Simulation | None:
        """Without what is left out."""
        whole = super().simulation(encoder)
        return replace(whole, **{self.left_out: {}}) if whole and self.left_out else whole


def main() -> None:
    """Measure each recipe."""
    sam = build_sam(demo_weights(), SIDE)
    rows = []
    for recipe in RECIPES:
        found = {
            part: finite(psnr(sam, recipe, left_out))
            for part, left_out in (("both", ""), ("weights", "inputs"), ("activations", "weights"))
        }
        rows.append({"recipe": recipe, "embedding_psnr_db": found})
        print(json.dumps(rows[-1]))
    write_json(RESULT, {"image_size": SIDE, "scenes": SCENES, "rows": rows})


@torch.no_grad()
def psnr(sam: Sam, recipe: str, left_out: str) -> float:
    """Of the embeddings over all held-out scenes; infinite where nothing is rounded."""
    target, _, name = recipe.partition(":")
    damage = damage_of(load_target(target), name, SIDE)
    recovery = Recovery(Part(**vars(damage), left_out=left_out), sam, torch.device("cpu"))
    encoder = sam.image_encoder
    recovery.observe(encoder, pixels(TRAINING_SEEDS))
    expected = torch.cat([encoder(image) for image in pixels(0)]).numpy()
    with recovery.simulated(encoder):
        found = torch.cat([encoder(image) for image in pixels(0)]).numpy()
    return metrics.psnr_db(found, expected)


def finite(value: float) -> float | None:
    """As JSON has it."""
    return round(value, 2) if math.isfinite(value) else None


def pixels(first_seed: int) -> Iterator[Tensor]:
    """Scenes as the encoder takes them."""
    contract = plain_contract(SIDE, 6)
    for number in range(SCENES):
        image = scene(first_seed + number, *shape(number, SIDE, SIDE))
        yield reference.normalize(prompts.encoder_inputs(image, contract)["image"], contract.size)


if __name__ == "__main__":
    main()
