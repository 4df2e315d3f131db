"""What a bundle's manifest, its README and the metadata inside its files are written from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mobilesam_export import __version__
from mobilesam_export.bundle.staging import PROJECT
from mobilesam_export.calibration import Calibration
from mobilesam_export.contract import Contract, GraphSpec
from mobilesam_export.target import Recipe, Target
from mobilesam_export.verification.report import Report

if TYPE_CHECKING:  # it imports torch
    from mobilesam_export.checkpoint.load import Checkpoint


@dataclass(frozen=True)
class Contents:
    """Everything about a bundle that is known before its files are listed.

    Attributes:
        target: the kind of files.
        recipe_name: of the target's recipe that they were made with.
        contract: of both files.
        checkpoint: what they were made of.
        versions: of the tools that decide the bytes of the files, by package.
        report: of the verification.
        logits_spread: of PyTorch's answers, see `cases.logits_spread`.
        calibration: the samples of a static recipe, or None.
        exponents: of range folding, see `graphs.ranges`.
        steps: by graph, what came of steps that are tried at each conversion; see `Conversion`.
        fit: what was raised in precision because the target's recipe did not hold, as JSON; None
            if nothing was.
        recovery: how the encoder was trained to bear the recipe, as JSON; None if it was not.
    """

    target: Target
    recipe_name: str
    contract: Contract
    checkpoint: "Checkpoint"
    versions: Mapping[str, str]
    report: Report
    logits_spread: float
    calibration: Calibration | None = None
    exponents: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    fit: Mapping[str, Any] | None = None
    recovery: Mapping[str, Any] | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe itself."""
        return self.target.recipe(self.recipe_name)[1]

    @property
    def convert(self) -> Mapping[str, Any]:
        """The target's [convert] table with what the recipe changes in it."""
        return self.target.options(self.recipe)


def file_metadata(
    spec: GraphSpec, target: Target, recipe_name: str, checkpoint: "Checkpoint"
) -> dict[str, str]:
    """What is written inside each file, so that a lone file can be identified."""
    provenance = checkpoint.provenance
    part = {
        "encoder": "image encoder: run once per image",
        "decoder": "prompt encoder and mask decoder: run once per prompt",
        "decoder_batch": "prompt encoder and mask decoder for several prompts about one image",
        "prepare": "what the decoder computes of the image alone: run once per image",
        "segmenter": "as a whole: run with the image once per prompt",
        "decoder_prepared": "decoder for prompts without a mask, on what `prepare` made",
    }[spec.name]
    return {
        "description": f"MobileSAM {part}. Made by {PROJECT} {__version__}.",
        "author": f"{PROJECT} {__version__}; MobileSAM by Zhang et al., 2023 (arXiv:2306.14289)",
        "license": provenance.license,
        "version": __version__,
        "target": target.name,
        "recipe": recipe_name,
        **{f"checkpoint_{key}": value for key, value in provenance.describe().items()},
    }
