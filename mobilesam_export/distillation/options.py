"""What the user chooses of a distillation, with the sources of the defaults."""

from dataclasses import dataclass
from pathlib import Path

from mobilesam_export.contract import DEFAULT_POINTS, PLAIN_FORM, Contract
from mobilesam_export.errors import UsageError

LOSSES = ("mse", "huber", "cosine", "mse+cosine")
# Both public trainers of MobileSAM (MobileSAM-pytorch, MobileSAM-Distill-Pipeline) run 8.
DEFAULT_EPOCHS = 8
LEARNING_RATE = 3e-4
# By the weights of a recipe whose damage is recovered. Batch 2, demo weights; mean mask IoU over
# the kinds of prompts on held-out scenes (benchmarks/results/recovery_rates.json):
#   onnx w4, 512        0.9877 before; after 800 steps with 1e-4 0.981, with 3e-5 0.992, with 1e-5
#                       0.9946; after 150 of 300 steps with 6e-6 and with 3e-6 0.9944
#   coreml w8a8, 256    0.9864 before; after 100 steps with 1e-6 0.9877, with 1e-5 0.9858
RECOVERY_RATES = {"int4": 3e-6, "int8": 1e-6}
LEAST = {"batch": 1, "held_out": 1, "mask_steps": 0, "views": 0, "seed": 0}


@dataclass(frozen=True)
class DistillOptions:
    """Options of `distill`.

    Attributes:
        images: a folder, searched with what lies below it, or "scenes:COUNT" for generated ones.
        out: the student's checkpoint, `.safetensors`. State, log and cached embeddings lie in a
            folder beside it, see `folder`.
        teacher: a source of checkpoints, or a SAM ViT-B, L or H in the official format.
        student: "mobilesam", the name of another student, or a TOML of widths and depths; or
            TARGET:RECIPE, an encoder that computes as the recipe's file does, see `recovery`.
        init: source of the checkpoint that its encoder begins with, as wide or wider, see
            `narrow_down`; None for "seeded", or for the teacher where a recipe's damage is
            recovered.
        image_size: S of teacher and student.
        epochs: passes over the images, unless `steps` is given.
        steps: of the optimizer, instead of epochs.
        mask_steps: further steps that compare masks beside embeddings, see `masks`.
        batch: images of one step, of all processes together. MobileSAM-pytorch and EdgeSAM: 8.
        held_out: images that are not trained on, for the figures after each epoch.
        views: versions of each image: the first is the whole image, the others are crops and
            flips. 0: another one each epoch, so that nothing can be cached.
        loss: one of LOSSES. MobileSAM: MSE; NanoSAM: Huber; EfficientSAM3: MSE and cosine.
        learning_rate: its maximum; None for 3e-4 (NanoSAM: Adam at a batch of 16), or where a
            recipe's damage is recovered for one that does not leave what is near: RECOVERY_RATES.
        seed: of the order of images.
        cache: folder of the teacher's embeddings, to share it between runs.
        cache_gb: 10^9 bytes that they may take; what is over is computed again each time.
        device: "cpu" or "cuda"; None for the GPU where there is one.
        report: an `.html` page to write at the end.
        plot: a `.png` of curves to write at the end.

    Raises:
        UsageError: a value is out of range.
    """

    images: str
    out: Path
    teacher: str = "official"
    student: str = "mobilesam"
    init: str | None = None
    image_size: int = 1024
    epochs: int | None = None
    steps: int | None = None
    mask_steps: int = 0
    batch: int = 8
    held_out: int = 8
    views: int = 1
    loss: str = "mse"
    learning_rate: float | None = None
    seed: int = 0
    cache: Path | None = None
    cache_gb: float = 20.0
    device: str | None = None
    report: Path | None = None
    plot: Path | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.loss not in LOSSES:
            raise UsageError(f"--loss is {self.loss}; expected one of {', '.join(LOSSES)}")
        if self.epochs is not None and self.steps is not None:
            raise UsageError("--epochs and --steps contradict each other; give one of them")
        _ = self.contract  # refuses an image size that no graph can have

    def _check_numbers(self) -> None:
        for name, least in LEAST.items():
            if (value := getattr(self, name)) < least:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} is {value}; expected {least} or more")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UsageError(f"--learning-rate is {self.learning_rate:g}; expected 0 to 1")
        if not self.cache_gb >= 0:
            raise UsageError(f"--cache-gb is {self.cache_gb:g}; expected 0 or more")

    @property
    def contract(self) -> Contract:
        """Of the images and of the prompts that held-out images are asked with."""
        return Contract(self.image_size, DEFAULT_POINTS, PLAIN_FORM)

    @property
    def folder(self) -> Path:
        """State and log of the run, and its cache: `student.safetensors` -> `student.distill`."""
        return self.out.with_suffix(".distill")

    @property
    def cache_folder(self) -> Path:
        """Of the teacher's embeddings."""
        return self.cache or self.folder / "embeddings"

    def embedding_steps(self, images: int) -> int:
        """Steps that compare embeddings, before `mask_steps`.

        Args:
            images: that are trained on.
        """
        if self.steps is not None:
            return self.steps
        epochs = DEFAULT_EPOCHS if self.epochs is None else self.epochs
        return -(-epochs * images // self.batch)
