"""Train the demo weights on seeded scenes; nothing else goes in. Resumable; CPU or CUDA.

    python -m benchmarks.train_demo build/demo-training

trains the whole schedule from nothing and writes `demo.safetensors` (float16) into that folder.
Interrupted, the same command goes on where it was. `--start FILE --from-stage N` begins with
weights and a later stage: so the shipped file was made (see its card).
"""

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.training import losses, prompting
from benchmarks.training.prompting import Prompts
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract.frame import PATCH, square
from mobilesam_export.model import PIXEL_MEAN, PIXEL_STD, Sam
from mobilesam_export.scenes import TRAINING_SEEDS, masked_scene

OBJECTS = 5  # of a scene, drawn anew each time; the encoder is what costs
EMA_DECAY = 0.98  # of the averaged weights, which are the ones that are kept
SAVE_EVERY = 50  # steps


@dataclass(frozen=True)
class Stage:
    """One image size of the schedule, with a cosine from its learning rate down to a tenth."""

    side: int
    images: int
    batch: int
    learning_rate: float


SCHEDULE = (
    Stage(side=256, images=28_000, batch=8, learning_rate=8e-4),
    Stage(side=512, images=5_800, batch=4, learning_rate=4e-4),
    Stage(side=512, images=1_200, batch=2, learning_rate=3e-4),
    Stage(side=1024, images=360, batch=1, learning_rate=1.5e-4),
)


class Trainer:
    """The model, its average, the optimizer, and how far the schedule has come."""

    def __init__(self, sam: Sam, schedule: tuple[Stage, ...], device: str) -> None:
        self.sam = _prepared(sam).to(device)
        self.average = copy.deepcopy(self.sam).requires_grad_(False)
        self.device = device
        self.schedule = schedule
        self.optimizer = torch.optim.AdamW(
            [p for p in self.sam.parameters() if p.requires_grad],
            betas=(0.9, 0.99),
            weight_decay=0.01,
        )
        self.stage = 0
        self.step = 0  # of the stage

    def train_step(self) -> float:
        """One step on one batch of scenes; the loss."""
        stage = self.schedule[self.stage]
        _set_side(self.sam, stage.side)
        rate = _learning_rate(stage, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = 0.0
        for index in range(stage.batch):
            number = self.step * stage.batch + index
            seed = TRAINING_SEEDS * (self.stage + 1) + number
            loss = scene_loss(self.sam, seed, stage.side, self.device)
            torch.autograd.backward(loss / stage.batch)
            total += loss.item() / stage.batch
        nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._update_average()
        self.step += 1
        if self.step * stage.batch >= stage.images:
            self.stage, self.step = self.stage + 1, 0
        return total

    @property
    def done(self) -> bool:
        """Whether the schedule is at its end."""
        return self.stage >= len(self.schedule)

    def _update_average(self) -> None:
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.sam.parameters(), strict=True)
            for average, parameter in pairs:
                average.lerp_(parameter, 1 - EMA_DECAY)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {
            "sam": self.sam.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "stage": self.stage,
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.sam.load_state_dict(state["sam"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stage, self.step = state["stage"], state["step"]


def _prepared(sam: Sam) -> Sam:
    """All parameters train, but the dead classifier; BatchNorm keeps its running statistics."""
    sam.eval().requires_grad_(True)
    sam.image_encoder.norm_head.requires_grad_(False)
    sam.image_encoder.head.requires_grad_(False)
    return sam


def _set_side(sam: Sam, side: int) -> None:
    """Weights do not depend on the image size; only positions do."""
    sam.size = square(side)
    sam.prompt_encoder.image_size, sam.prompt_encoder.embedding_side = side, side // PATCH


def _learning_rate(stage: Stage, step: int) -> float:
    steps = stage.images / stage.batch
    warm_up = min(1.0, (step + 1) / 20)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return stage.learning_rate * warm_up * (0.1 + 0.9 * cosine)


def scene_loss(sam: Sam, seed: int, side: int, device: str) -> Tensor:
    """The loss of one scene: clicks, boxes, and a second round that corrects or combines them."""
    random = np.random.default_rng(seed)
    scene = masked_scene(seed, side, side)
    chosen = random.permutation(len(scene.masks))[:OBJECTS]
    masks = scene.masks[np.sort(chosen)]
    if not len(masks):
        return next(sam.mask_decoder.parameters()).sum() * 0
    target = F.avg_pool2d(torch.from_numpy(masks).float(), 4).round().to(device)
    with _autocast(device):
        embeddings = sam.encode(normalized(scene.image).to(device))
    clicks = prompting.clicks(random, masks).to(device)
    logits, ious = _decode(sam, embeddings, Prompts(clicks, torch.ones_like(clicks[..., 0])))
    loss = losses.prompt_loss(logits[:, 1:], ious[:, 1:], target)
    boxes = prompting.boxes(random, masks).to(device)
    box_logits, box_ious = _decode(sam, embeddings, Prompts(box=boxes))
    loss = loss + losses.prompt_loss(box_logits[:, :1], box_ious[:, :1], target)
    second = _second_round(random, masks, clicks, boxes, (logits.detach(), ious.detach()))
    logits, ious = _decode(sam, embeddings, second)
    answers = slice(1, 4) if second.single_click else slice(0, 1)
    return loss + losses.prompt_loss(logits[:, answers], ious[:, answers], target)


def _second_round(
    random: np.random.Generator,
    masks: prompting.Masks,
    clicks: Tensor,
    boxes: Tensor,
    answer: tuple[Tensor, Tensor],
) -> Prompts:
    """One of: the click again with its mask; corrected, with or without it; box and click."""
    kind = int(random.integers(0, 4))
    logits, ious = answer
    ones = torch.ones_like(clicks[..., 0])
    best = 1 + ious[:, 1:].argmax(dim=1)
    previous = logits[torch.arange(len(best)), best][:, None]
    if kind == 0:
        return Prompts(clicks, ones, mask_input=previous)
    if kind == 1:
        return Prompts(clicks, ones, box=boxes)
    found = F.interpolate(previous, masks.shape[1:], mode="bilinear")[:, 0].cpu().numpy() > 0
    coords, labels = prompting.corrections(random, masks, found, count=kind - 1)
    points = torch.cat([clicks, coords.to(clicks.device)], dim=1)
    signs = torch.cat([ones, labels.to(clicks.device)], dim=1)
    return Prompts(points, signs, mask_input=previous if kind == 2 else None)


def _decode(sam: Sam, embeddings: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
    with _autocast(embeddings.device.type):
        logits, ious = sam.decode(
            embeddings, prompts.point_coords, prompts.point_labels, prompts.box, prompts.mask_input
        )
    return logits.float(), ious.float()


def _autocast(device: str) -> torch.autocast:
    """bfloat16, but for processors without products in it: AVX2 takes 7 times the time."""
    kind = torch.device(device).type
    fast = kind != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.autocast(kind, torch.bfloat16, enabled=fast)


def normalized(image: np.ndarray[Any, Any]) -> Tensor:
    """(S, S, 3) uint8 -> (1, 3, S, S) float32."""
    pixels = torch.from_numpy(image).float()
    scaled = (pixels - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    return scaled.permute(2, 0, 1)[None].contiguous()


def save_weights(sam: Sam, path: Path) -> None:
    """A float16 safetensors file, complete or not there."""
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in sam.state_dict().items()
    }
    part = path.with_suffix(".part")
    save_file(half, part)
    part.replace(path)


def save_state(trainer: Trainer, path: Path) -> None:
    """What a later run needs to go on, complete or as it was before."""
    part = path.with_suffix(".part")
    torch.save(trainer.state(), part)
    part.replace(path)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--start", type=click.Path(path_type=Path), help="Weights to begin with.")
@click.option("--from-stage", default=0, help="First stage of the schedule, with --start.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu")
def main(folder: Path, start: Path | None, from_stage: int, device: str) -> None:
    """Train in FOLDER, or go on with what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    sam = Sam()
    if start is not None:
        sam.load_state_dict(load_checkpoint(str(start)).state_dict)
    trainer = Trainer(sam, SCHEDULE, device)
    trainer.stage = from_stage
    state = folder / "training.pt"
    if state.exists():
        trainer.restore(torch.load(state, map_location=device, weights_only=True))
    started, recent = time.monotonic(), []
    while not trainer.done:
        at = (trainer.stage, trainer.step)
        recent.append(trainer.train_step())
        if trainer.step % SAVE_EVERY == 0:
            save_state(trainer, state)
            save_weights(trainer.average, folder / "demo.safetensors")
            seconds = time.monotonic() - started
            print(
                f"{seconds:7.0f} s, stage {at[0]}, step {at[1]}: {np.mean(recent):.3f}", flush=True
            )
            recent.clear()
    save_weights(trainer.average, folder / "demo.safetensors")


if __name__ == "__main__":
    main()
