"""What a ladder is asked for, and what is known of each of its rungs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilesam_export.contract.frame import frame_of
from mobilesam_export.errors import UsageError
from mobilesam_export.files import file_sha256
from mobilesam_export.sweep.points import Point
from mobilesam_export.tables import NONE, Table, milliseconds
from mobilesam_export.target import load_target

HEAD = ("size", "mask IoU", "click", "clicks", "box", "worst image", "encoder ms", "decoder ms")
COUNTED = ("GMACs", "peak MB", "file MB")


@dataclass(frozen=True)
class LadderOptions:
    """Options of `ladder`.

    Attributes:
        target: TARGET or TARGET:RECIPE.
        out: folder of bundles, figures and the plot.
        sizes: sides of squares, or "WIDTHxHEIGHT".
        checkpoint: a source of weights.
        images: folder of images like the app's; None for held-out scenes of 1024 x 768.
        scenes: number of scenes, without images.
        limit: largest number of images; None for all.
        threads: of the runs that are timed; 0 for all cores.
        rounds: in which each file is run once.
        max_ms: budget for encoder and decoder together, the first mask, or None.
        max_mb: budget for weights and activations of the encoder while it runs, or None.

    Raises:
        UsageError: a size, number or budget cannot be meant.
    """

    target: str
    out: Path
    sizes: tuple[int | str, ...]
    checkpoint: str = "official"
    images: Path | None = None
    scenes: int = 10
    limit: int | None = None
    threads: int = 0
    rounds: int = 10
    max_ms: float | None = None
    max_mb: float | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no ladder."""
        if len({frame_of(size).option for size in self.sizes}) < 2:
            raise UsageError("a ladder has two sizes at least, such as --sizes 1024,1024x768,512")
        for name, value in (("scenes", self.scenes), ("rounds", self.rounds)):
            if value < 1:
                raise UsageError(f"--{name} is {value}; expected 1 or more")
        for name, budget in (("max-ms", self.max_ms), ("max-mb", self.max_mb)):
            if budget is not None and not budget > 0:
                raise UsageError(f"--{name} is {budget:g}; expected more than 0")

    def points(self) -> list[Point]:
        """One for each size, in their order.

        Raises:
            TargetError: there is no such target or recipe.
        """
        name, colon, recipe = self.target.rpartition(":")
        name = name if colon else self.target
        chosen = load_target(name).recipe(recipe if colon else None)[0]
        sizes = dict.fromkeys(frame_of(size).option for size in self.sizes)
        return [Point(name, chosen, size, self.checkpoint) for size in sizes]

    def asked(self) -> Mapping[str, object]:
        """What the masks of a rung depend on, beside its point."""
        path = Path(self.checkpoint)
        return {
            "weights": file_sha256(path) if path.is_file() else self.checkpoint,
            "images": None if self.images is None else str(self.images.absolute()),
            "scenes": None if self.images else self.scenes,
            "limit": self.limit,
        }


@dataclass(frozen=True)
class Rung:
    """One size of the ladder.

    Attributes:
        size: as `--image-size` takes it.
        bundle: name of its folder.
        status: of its files.
        mean: IoU by kind of prompt with the masks of PyTorch on the square of 1024.
        worst: of the images, the least mean over its prompts.
        encoder_ms: median time; None where the files have no runtime here.
        decoder_ms: the same.
        macs: of the encoder; None where they cannot be counted.
        peak_bytes: weights and activations of the encoder while it runs; None likewise.
        file_bytes: of encoder and decoder.
    """

    size: str
    bundle: str
    status: str
    mean: Mapping[str, float]
    worst: float
    encoder_ms: float | None
    decoder_ms: float | None
    macs: int | None
    peak_bytes: int | None
    file_bytes: int

    @property
    def iou(self) -> float:
        """Mean over the kinds of prompts."""
        return sum(self.mean.values()) / len(self.mean)

    @property
    def first_mask_ms(self) -> float | None:
        """Encoder and decoder."""
        if self.encoder_ms is None or self.decoder_ms is None:
            return None
        return self.encoder_ms + self.decoder_ms

    @property
    def cost(self) -> float | None:
        """What a rung is compared by: the time to the first mask, or products without a runtime."""
        return self.macs if self.first_mask_ms is None else self.first_mask_ms

    def cells(self) -> list[str]:
        """A row of the table."""
        kinds = [f"{self.mean[kind]:.3f}" if kind in self.mean else NONE for kind in HEAD[2:5]]
        counted = [
            NONE if self.macs is None else f"{self.macs / 1e9:.1f}",
            NONE if self.peak_bytes is None else f"{self.peak_bytes / 1e6:.0f}",
            f"{self.file_bytes / 1e6:.1f}",
        ]
        times = [milliseconds(self.encoder_ms), milliseconds(self.decoder_ms)]
        return [self.size, f"{self.iou:.3f}", *kinds, f"{self.worst:.3f}", *times, *counted]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "mean": dict(self.mean), "iou": self.iou}


def table(rungs: Sequence[Rung]) -> Table:
    """For people."""
    return (*HEAD, *COUNTED), [rung.cells() for rung in rungs]


def pareto(rungs: Sequence[Rung]) -> list[Rung]:
    """Those of which no other costs at most as much and has a larger IoU, the cheapest first."""
    best: list[Rung] = []
    known = [rung for rung in rungs if rung.cost is not None]
    for rung in sorted(known, key=lambda item: (item.cost, -item.iou)):
        if not best or rung.iou > best[-1].iou:
            best.append(rung)
    return best


def recommended(rungs: Sequence[Rung], options: LadderOptions) -> Rung | None:
    """The largest IoU within the budgets, which a figure that is not known is not; or None."""

    def fits(rung: Rung) -> bool:
        peak = None if rung.peak_bytes is None else rung.peak_bytes / 1e6
        budgets = ((options.max_ms, rung.first_mask_ms), (options.max_mb, peak))
        return all(
            budget is None or (value is not None and value <= budget) for budget, value in budgets
        )

    return max(filter(fits, rungs), key=lambda rung: rung.iou, default=None)
