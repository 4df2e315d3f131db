"""How much does each group of layers suffer from a recipe's numbers, on its own?

The export form is run in PyTorch with the weights of one group rounded as the recipe rounds them,
and what its layers take too where the recipe rounds activations; everything else is float32. The
same for every backend, so that it says what a recipe's exceptions should be before a file is made.
Nothing of a converter or a runtime is in it, and activations have the range of the very tensor.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mobilesam_export import metrics
from mobilesam_export.backends import reference
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.checkpoint.load import load_matching_checkpoint
from mobilesam_export.contract import Array, Contract
from mobilesam_export.errors import UsageError
from mobilesam_export.files import write_whole
from mobilesam_export.graphs import Graph, as_session, split_graphs
from mobilesam_export.graphs.names import weights
from mobilesam_export.graphs.products import count_products
from mobilesam_export.graphs.resumed import ResumedEncoder
from mobilesam_export.model import build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import step
from mobilesam_export.prompts import encoder_inputs
from mobilesam_export.rounding import NOTHING_KNOWN, Known, rounded, tensor_of
from mobilesam_export.target import Recipe
from mobilesam_export.verification import cases as verification_cases
from mobilesam_export.verification.cases import ImageCase

PROMPTS = ("click", "box")  # of those that files are verified with; there are many groups
WIDTH_IN, ROW_IN = 8.0, 0.26  # inches of the plot
Groups = Mapping[str, Mapping[str, Sequence[str]]]  # graph -> group -> names of its weights
KnownNumbers = Mapping[str, Known]  # by graph
COLORS = {"encoder": "#3b82c4", "decoder": "#c2410c"}


@dataclass(frozen=True)
class Damage:
    """What rounding one group does.

    Attributes:
        graph: "encoder" or "decoder".
        group: path of a module or weight, as a pattern of a recipe's exceptions.
        numbers: how many weights are rounded.
        products: how many multiplications these weights take part in, of those that are not known
            to be computed as in float32.
        embedding_psnr_db: the worst of the images; None in the decoder.
        mask_iou_mean: over all verification prompts, against float32.
        mask_iou_min: the worst of them.
    """

    graph: str
    group: str
    numbers: int
    products: int
    embedding_psnr_db: float | None
    mask_iou_mean: float
    mask_iou_min: float

    @property
    def loss(self) -> float:
        """Mean mask IoU that is lost."""
        return max(0.0, 1 - self.mask_iou_mean)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity, as the PSNR without any difference: null."""
        psnr = self.embedding_psnr_db
        finite = None if psnr is None or math.isinf(psnr) else psnr
        return {**asdict(self), "embedding_psnr_db": finite}


@dataclass(frozen=True)
class Sensitivity:
    """What the recipe of a bundle does to each group of layers."""

    target: str
    recipe: str
    damages: tuple[Damage, ...]


def measure_bundle(folder: Path, checkpoint: str | None = None) -> Sensitivity:
    """Round each group of layers of a bundle's model as its recipe does.

    Args:
        folder: the bundle.
        checkpoint: what it was made of, or None to take what its manifest names.

    Raises:
        UsageError: the recipe rounds nothing, or the bundle's decoder picks its own mask.
        BundleError: it is no bundle. CheckpointError: its weights are not to be had.
    """
    opened = open_bundle(folder)
    contract, recipe = opened.contract, opened.recipe
    if contract.dynamic:
        raise UsageError("its layers are those of the onnx target; use a bundle of that one")
    if (recipe.weights, recipe.activations) == ("float32", "float32"):
        raise UsageError("a float32 bundle rounds nothing; give one of another recipe")
    checked = load_matching_checkpoint(opened.provenance, checkpoint)
    sam = build_sam(checked.state_dict, contract.size)
    with step("Asking PyTorch for the expected answers"):
        expected = verification_cases.reference_cases(reference.load(sam, contract))
    with step("Rounding one group of layers after the other"):
        few = few_prompts(expected)
        damages = tuple(measure(split_graphs(sam, contract), recipe, few, contract))
    return Sensitivity(opened.target, opened.recipe_name, damages)


def few_prompts(cases: Sequence[ImageCase]) -> tuple[ImageCase, ...]:
    """The cases with those prompts that groups are judged by."""
    return tuple(
        replace(case, prompts=tuple(p for p in case.prompts if p.name in PROMPTS)) for case in cases
    )


def save_plot(found: Sensitivity, path: Path) -> None:
    """Draw bars of the mask IoU that each group loses, as a PNG.

    Raises:
        OutputError: it cannot be written.
    """
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    names = [f"{damage.graph} {damage.group}" for damage in found.damages]
    colors = [COLORS[damage.graph] for damage in found.damages]
    figure = Figure(figsize=(WIDTH_IN, ROW_IN * len(names) + 0.8), layout="constrained")
    panel = figure.subplots()
    bars = panel.barh(names, [damage.loss for damage in found.damages], color=colors)
    panel.bar_label(bars, fmt="%.4f", padding=3, fontsize=8)
    panel.invert_yaxis()
    title = f"{found.target}, {found.recipe}"
    panel.set_title(f"Mask IoU lost to each group alone: {title}", fontsize=10)
    with write_whole(path) as part:
        figure.savefig(part, dpi=120)


def measure(
    graphs: Sequence[Graph],
    recipe: Recipe,
    cases: Sequence[ImageCase],
    contract: Contract,
    groups: Groups | None = None,
    known: KnownNumbers | None = None,
) -> Iterator[Damage]:
    """Round one group after the other.

    Args:
        graphs: encoder and decoder in export form.
        recipe: what is rounded and how; its exceptions are left out of account.
        cases: images with prompts and PyTorch's answers.
        contract: of the graphs.
        groups: what is rounded at once; None for blocks of layers (`weight_groups`).
        known: of the numbers of each graph's file.

    Yields:
        The damage of each group, in the order of the graphs.
    """
    encoder, decoder = graphs
    predictor = Predictor(as_session(encoder), as_session(decoder), contract)
    images = [ResumedEncoder(encoder, encoder_inputs(case.image, contract)) for case in cases]
    for graph in graphs:
        graph_name, threshold = graph.spec.name, recipe.weight_threshold
        asked = weight_groups(graph.module, threshold) if groups is None else groups[graph_name]
        products = count_products(graph) if asked else {}
        numbers_known = (known or {}).get(graph_name, NOTHING_KNOWN)
        for group, names in asked.items():
            numbers = sum(tensor_of(graph.module, name).numel() for name in names)
            with rounded(graph.module, group, names, recipe, numbers_known):
                found = [
                    _answer(predictor, case, image.embedding(names) if graph is encoder else None)
                    for case, image in zip(cases, images, strict=True)
                ]
            ious = [iou for _, values in found for iou in values]
            psnr = min(value for value, _ in found) if graph is encoder else None
            count = sum(products[name] for name in names if numbers_known.rounds(name))
            yield Damage(graph_name, group, numbers, count, psnr, float(np.mean(ious)), min(ious))


def weight_groups(module: nn.Module, threshold: int) -> dict[str, list[str]]:
    """Names of all weights over `threshold` elements, by the pattern that means their block."""
    groups: dict[str, list[str]] = {}
    for name in weights(module, threshold):
        groups.setdefault(_group(name), []).append(name)
    return groups


def _group(name: str) -> str:
    """stage2.blocks.1.q.weight -> stage2.blocks.1; stem.conv1.weight -> stem; and so on."""
    parts = name.split(".")
    if "blocks" in parts:
        return ".".join(parts[: parts.index("blocks") + 2])
    return ".".join(parts[:2]) if parts[0] == "transformer" else parts[0]


def _answer(
    predictor: Predictor, case: ImageCase, embeddings: Array | None
) -> tuple[float, list[float]]:
    """PSNR of the embedding, the reference's if it is None, and mask IoU of every prompt."""
    image = case.embedded
    if embeddings is not None:
        image = replace(image, embeddings=embeddings)
    ious = [
        metrics.mask_iou(predictor.predict(item.prompt, image).mask, item.answer.mask)
        for item in case.prompts
    ]
    return metrics.psnr_db(image.embeddings, case.embeddings), ious
