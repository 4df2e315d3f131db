"""Teachers and students of one layer, so that what is around them can be tested quickly."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from mobilesam_export.contract import DEFAULT_POINTS, PLAIN_FORM, Contract
from mobilesam_export.distillation.batches import Order, Steps
from mobilesam_export.distillation.dataset import open_images
from mobilesam_export.distillation.embedder import Embedder
from mobilesam_export.distillation.embeddings import EmbeddingCache
from mobilesam_export.distillation.loop import Run
from mobilesam_export.distillation.masks import MaskLoss
from mobilesam_export.distillation.processes import Processes
from mobilesam_export.distillation.state import Log, RunFolder
from mobilesam_export.distillation.teacher import Teacher
from mobilesam_export.distillation.trainer import Plan, Trainer
from mobilesam_export.scenes import scene

SIZE = 256
ONE = Processes(0, 1, torch.device("cpu"))
CONTRACT = Contract(SIZE, DEFAULT_POINTS, PLAIN_FORM)


def write_images(folder: Path) -> Path:
    """A new folder with three images."""
    folder.mkdir()
    for number in range(3):
        Image.fromarray(scene(number, 40, 60)).save(folder / f"{number}.png")
    return folder


def one_layer(seed: int) -> nn.Module:
    """(B, 3, S, S) -> (B, 256, S/16, S/16)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Conv2d(3, 256, 16, 16)


class Counted(nn.Module):
    """An encoder that tells of each call."""

    def __init__(self, encoder: nn.Module, on_call: Callable[[int], None]) -> None:
        super().__init__()
        self.encoder = encoder
        self.on_call = on_call

    def forward(self, image: Tensor) -> Tensor:
        self.on_call(len(image))
        found: Tensor = self.encoder(image)
        return found


def teacher(on_call: Callable[[int], None] = lambda _: None) -> Teacher:
    """A teacher of one layer, without a decoder."""
    return Teacher("one layer", "0" * 64, Counted(one_layer(0), on_call), {})


def run(
    folder: Path,
    processes: Processes,
    steps: int = 6,
    batch: int = 2,
    on_call: Callable[[int], None] = lambda _: None,
    *,
    masks: MaskLoss | None = None,
    mask_steps: int = 0,
) -> Run:
    """A run on generated scenes that goes on with what lies in `folder`; without a judge."""
    images = open_images("scenes:5", SIZE, 1, folder / "images.json")
    state = RunFolder(folder, {"steps": steps})
    plan = Plan(steps, 1e-3, "mse", mask_steps)
    trainer = Trainer(one_layer(1), plan, processes)
    log = Log()
    if saved := state.load(processes.device):
        trainer.restore(saved[0])
        log = saved[1]
    taught = teacher(on_call)
    cache = EmbeddingCache(folder / "embeddings", taught.sha256, SIZE, 10**9, processes.rank)
    return Run(
        trainer,
        Steps(images, Order(5, 1, 0), CONTRACT, batch, processes.rank, processes.count),
        Embedder(taught, cache),
        None,
        state,
        log,
        processes,
        0,
        lambda encoder: None,
        masks,
    )
