"""How much does each group of layers suffer from a recipe's numbers, on its own?

The export form is run in PyTorch with the weights of one group rounded as the recipe rounds them,
and what its layers take too where the recipe rounds activations; everything else is float32. The
same for every backend, so that it says what a recipe's exceptions should be before a file is made.
Nothing of a converter or a runtime is in it, and activations have the range of the very tensor.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
from mobilesam_export.target import Recipe
from mobilesam_export.verification import cases as verification_cases
from mobilesam_export.verification.cases import ImageCase

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
LLOYD_STEPS = 12  # of k-means in one dimension; more changes the third digit of a PSNR
PROMPTS = ("click", "box")  # of those that files are verified with; there are many groups
WIDTH_IN, ROW_IN = 8.0, 0.26  # inches of the plot
Groups = Mapping[str, Mapping[str, Sequence[str]]]  # graph -> group -> names of its weights
Chosen = Mapping[str, Mapping[str, Array]]  # graph -> name of a weight -> float32, on its grid
NOT_CHOSEN: Chosen = {}
COLORS = {"encoder": "#3b82c4", "decoder": "#c2410c"}


@dataclass(frozen=True)
class Damage:
    """What rounding one group does.

    Attributes:
        graph: "encoder" or "decoder".
        group: path of a module or weight, as a pattern of a recipe's exceptions.
        numbers: how many weights are rounded.
        products: how many multiplications these weights take part in.
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
    chosen: Chosen = NOT_CHOSEN,
) -> Iterator[Damage]:
    """Round one group after the other.

    Args:
        graphs: encoder and decoder in export form.
        recipe: what is rounded and how; its exceptions are left out of account.
        cases: images with prompts and PyTorch's answers.
        contract: of the graphs.
        groups: what is rounded at once; None for blocks of layers (`weight_groups`).
        chosen: what some weights become in place of what is nearest.

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
        known = chosen.get(graph_name, {})
        for group, names in asked.items():
            numbers = sum(_tensor(graph.module, name).numel() for name in names)
            with rounded(graph.module, group, names, recipe, known):
                found = [
                    _answer(predictor, case, image.embedding(names) if graph is encoder else None)
                    for case, image in zip(cases, images, strict=True)
                ]
            ious = [iou for _, values in found for iou in values]
            psnr = min(value for value, _ in found) if graph is encoder else None
            count = sum(products[name] for name in names)
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


@contextlib.contextmanager
def rounded(
    module: nn.Module,
    group: str,
    names: Sequence[str],
    recipe: Recipe,
    chosen: Mapping[str, Array] | None = None,
) -> Iterator[None]:
    """Round these tensors of a module, and what the layers of the group take, while inside.

    Those that are `chosen` are given these numbers.
    """
    kept = {name: _tensor(module, name).detach().clone() for name in names}
    hooks = []
    try:
        for name, value in kept.items():
            known = (chosen or {}).get(name)
            found = round_weight(value, recipe) if known is None else torch.from_numpy(known)
            _tensor(module, name).data.copy_(found)
        for name, layer in module.named_modules():
            if isinstance(layer, LAYERS) and f"{name}.".startswith(f"{group}."):
                hooks.append(layer.register_forward_pre_hook(_round_inputs(recipe.activations)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name, value in kept.items():
            _tensor(module, name).data.copy_(value)


def round_weight(weight: Tensor, recipe: Recipe) -> Tensor:
    """A weight as the recipe stores it, in float32 again."""
    if recipe.weights == "float16":
        return weight.half().float()
    if recipe.weights.startswith("palette"):
        return _palette(weight, 2 ** int(recipe.weights.removeprefix("palette")))
    if recipe.weights == "int4":
        return _blocks(weight, recipe.group_size)
    if recipe.weights == "int8":
        flat = weight.reshape(weight.shape[0], -1)
        scale = flat.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        return ((flat / scale).round() * scale).reshape(weight.shape)
    return weight


def _blocks(weight: Tensor, size: int) -> Tensor:
    """Four bits, one scale for `size` numbers of a row, as far as rows are a multiple of it."""
    flat = weight.reshape(weight.shape[0], -1)
    if flat.shape[1] % size:
        size = flat.shape[1]
    parts = flat.reshape(flat.shape[0], -1, size)
    scale = parts.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 7.5
    return ((parts / scale).round().clamp(-8, 7) * scale).reshape(weight.shape)


def _palette(weight: Tensor, colors: int) -> Tensor:
    """Nearest of so many numbers, by k-means in one dimension from even quantiles."""
    values = weight.flatten().double().numpy()
    ordered = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centers = np.unique(np.quantile(ordered, (np.arange(colors) + 0.5) / colors))
    for _ in range(LLOYD_STEPS):
        ends = np.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        centers = np.where(counts > 0, means, centers)
    nearest = centers[np.searchsorted((centers[1:] + centers[:-1]) / 2, values)]
    return torch.from_numpy(nearest).float().reshape(weight.shape)


def _round_inputs(activations: str):  # type: ignore[no-untyped-def] # noqa: ANN202 torch's hooks
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(
            _round_activation(item, activations) if isinstance(item, Tensor) else item
            for item in inputs
        )

    return hook


def _round_activation(value: Tensor, activations: str) -> Tensor:
    if activations == "float16":
        return value.half().float()
    if activations in ("int8", "dynamic-int8"):
        low, high = value.amin().clamp_max(0), value.amax().clamp_min(0)
        scale = ((high - low) / 255).clamp_min(1e-12)
        zero = (-low / scale).round()
        return ((value / scale).round() + zero).clamp(0, 255).sub(zero) * scale
    if activations == "int16":
        scale = value.abs().amax().clamp_min(1e-12) / 32767
        return (value / scale).round() * scale
    return value


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


def _tensor(module: nn.Module, name: str) -> Tensor:
    owner, _, last = name.rpartition(".")
    found = getattr(module.get_submodule(owner), last)
    assert isinstance(found, Tensor)  # noqa: S101 tells mypy
    return found
