"""A float32 ONNX model and a recipe -> a smaller or faster one, held to parity after every step.

Steps: exact rewrites (`rewrite`), then either products in int8 (`integer`) or four-bit
matrices, then storing the other weights in fewer bits (`store`). A step that changes more
than it may is named in the error, so that no optimizer can damage a graph in silence. Neither
onnxsim (0.8.1) nor ONNX Runtime's `quant_pre_process` is used here: what they find in these graphs
is MatMul and Add to make a Gemm of, between two Reshapes (30 in the encoder), which a list of
MatMul then passes over. Float graphs are simplified by `simplify`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mobilesam_export import metrics
from mobilesam_export.backends.onnx import integer, ranges, rewrite, store
from mobilesam_export.backends.onnx.graph import Array, GraphEditor, Node
from mobilesam_export.errors import ConversionError, TargetError, first_line
from mobilesam_export.target import GELUS, GRAPHS, Recipe, patterns

Sample = Mapping[str, Array]
EXACT_PSNR_DB = 100.0  # float32 rounding is at 130 and more
GELU_PSNR_DB = 60.0  # 82 dB measured on the demo weights at 1024
QUANTIZED_PSNR_DB = 10.0  # what is below has nothing of the answer; `verify` judges the rest
SAMPLES_TO_COMPARE = 1


@dataclass(frozen=True)
class Settings:
    """The [quantize] table of an ONNX recipe.

    Attributes:
        ranges: how ranges are found, one of `ranges.METHODS`; static recipes only.
        percentile: see there.
        integer: for each graph, patterns of the weights whose products are computed in int8.
        accuracy_level: of MatMulNBits; four-bit recipes only.
        rewrite: whether the encoder is rewritten for ONNX Runtime's CPU kernels.
        gelu: of a rewritten encoder: "none" (exact) or "tanh".
    """

    ranges: str = "minmax"
    percentile: float = 99.999
    integer: Mapping[str, Sequence[str]] = field(default_factory=dict)
    accuracy_level: int = 0
    rewrite: bool = False
    gelu: str = "none"


def parse_settings(table: Mapping[str, Any]) -> Settings:
    """Check the [quantize] table.

    Raises:
        TargetError: an unknown key or a value that no file can have.
    """
    known = Settings.__dataclass_fields__
    for key in table:
        if key not in known:
            raise TargetError(
                f"[quantize]: unknown key {key!r}; known keys: {', '.join(known)}", "quantize", key
            )
    settings = Settings(**table)
    integer = settings.integer
    for key, problem, what in (
        ("ranges", settings.ranges not in ranges.METHODS, f"ranges: {', '.join(ranges.METHODS)}"),
        (
            "percentile",
            not _number(settings.percentile) or not 50 < settings.percentile <= 100,
            "percentile: over 50 up to 100",
        ),
        (
            "accuracy_level",
            settings.accuracy_level not in (0, 4),
            "accuracy_level: 0 (float32) or 4 (int8)",
        ),
        ("rewrite", not isinstance(settings.rewrite, bool), "rewrite: true or false"),
        ("gelu", settings.gelu not in GELUS, f"gelu: {', '.join(GELUS)}"),
        ("gelu", settings.gelu != "none" and not settings.rewrite, "gelu only with rewrite = true"),
        (
            "integer",
            not isinstance(integer, Mapping)
            or not set(integer) <= set(GRAPHS)
            or not all(_patterns(item) for item in integer.values()),
            "integer: a list of patterns for encoder, for decoder or both",
        ),
    ):
        if problem:
            raise TargetError(f"[quantize] takes {what}; found {dict(table)}", "quantize", key)
    return settings


def check_recipe(recipe: Recipe) -> Settings:
    """Read a recipe with compressed weights, or refuse one that no ONNX file can have.

    Raises:
        TargetError: with what it should be.
    """
    settings = parse_settings(recipe.quantize)
    kinds = (recipe.weights, recipe.activations)
    if kinds not in (
        ("int8", "float32"),
        ("int8", "dynamic-int8"),
        ("int8", "int8"),
        ("int4", "float32"),
    ):
        raise TargetError(
            "a compressed onnx recipe has int8 weights with float32, dynamic-int8 or int8 "
            f"activations, or int4 weights with float32 ones; found {kinds[0]} and {kinds[1]}",
            "weights",
        )
    granularity = "per_grouped_channel" if recipe.weights == "int4" else "per_channel"
    if recipe.granularity != granularity:
        raise TargetError(
            f"{recipe.weights} weights of an onnx recipe are {granularity}, not "
            f"{recipe.granularity}",
            "granularity",
        )
    if recipe.weights == "int4" and recipe.group_size not in (16, 32, 64, 128, 256):
        raise TargetError(
            f"group_size is {recipe.group_size}; MatMulNBits takes 16, 32, ... 256", "group_size"
        )
    if (recipe.activations == "float32") == bool(settings.integer):
        raise TargetError(
            "[quantize] integer says which products int8 activations are for", "quantize", "integer"
        )
    for graph, kinds_by_pattern in recipe.exceptions.items():
        for pattern, kind in kinds_by_pattern.items():
            if kind not in store.KINDS:
                raise TargetError(
                    f"exceptions of an onnx recipe are float32, float16 or int8, not {kind}",
                    *("exceptions", graph, pattern),
                )
    return settings


def quantize(
    model: Node,
    name: str,
    recipe: Recipe,
    settings: Settings,
    finder: ranges.Finder,
    chosen: Mapping[str, Array],
) -> Node:
    """Write a model's weights, and its products if so said, in the recipe's numbers.

    Args:
        model: float32, as exported; not changed.
        name: "encoder" or "decoder".
        recipe: with compressed weights.
        settings: what `check_recipe` has read from it.
        finder: of ranges; with samples for calibrated recipes.
        chosen: by name, what takes the place of weights before they are rounded, in the shape of
            the export form. Ranges are those of the model as it is.

    Returns:
        The model in the recipe's numbers.

    Raises:
        ConversionError: a step changed more than it may.
        TargetError: a pattern is for no weight, or a static recipe has no samples.
    """
    if recipe.calibrated and not finder.samples:
        raise TargetError("this recipe is calibrated and was given no samples")
    steps: list[tuple[str, Callable[[Node], Node], float]] = []
    if settings.rewrite and name == "encoder":
        steps += [
            ("moving bytes first", rewrite.move_bytes_first, EXACT_PSNR_DB),
            ("unfolding convolutions", rewrite.unfold, EXACT_PSNR_DB),
            ("making convolutions linear", rewrite.make_linear, EXACT_PSNR_DB),
            ("fusing attention", rewrite.fuse_attention, EXACT_PSNR_DB),
        ]
        if settings.gelu != "none":
            approximate = partial(rewrite.approximate_gelu, form=settings.gelu)
            steps.append(("approximating GELU", approximate, GELU_PSNR_DB))
    if listed := settings.integer.get(name, ()):
        kept = recipe.exceptions.get(name, {})
        ranged = finder if recipe.activations == "int8" else None
        steps.append(
            (
                "quantizing products",
                lambda m: integer_products(m, name, listed, ranged, kept, chosen),
                QUANTIZED_PSNR_DB,
            )
        )
    steps.append(
        (
            "quantizing weights",
            lambda m: _store_weights(m, name, recipe, settings, finder, chosen),
            QUANTIZED_PSNR_DB,
        )
    )
    compared = list(finder.samples or finder.examples)[:SAMPLES_TO_COMPARE]
    return run_steps(model, name, steps, compared)


def run_steps(
    model: Node,
    name: str,
    steps: Sequence[tuple[str, Callable[[Node], Node], float]],
    samples: Sequence[Sample],
) -> Node:
    """Do one step after the other; each has its name and the least PSNR in dB that it must keep.

    Raises:
        ConversionError: naming the step that did not.
    """
    expected = _answers(model, samples)
    for what, step, floor in steps:
        model = step(model)
        try:
            found = _answers(model, samples)
        except Exception as exc:  # onnxruntime's errors share no public base class
            raise ConversionError(
                f"{name}: {what} left a graph that does not run: {first_line(exc)}"
            ) from exc
        worst = min(metrics.psnr_db(a, b) for a, b in zip(found, expected, strict=True))
        if not worst >= floor:
            raise ConversionError(
                f"{name}: {what} changed what it computes: PSNR {worst:.1f} dB to what it was "
                f"before, expected >= {floor:g}"
            )
        expected = found
    return model


def integer_products(
    model: Node,
    name: str,
    listed: Sequence[str],
    finder: ranges.Finder | None,
    exceptions: Mapping[str, str] | None = None,
    weights: Mapping[str, Array] | None = None,
) -> Node:
    """Let products be computed in int8 where a pattern matches the weight.

    Args:
        model: float32.
        name: of the graph, for errors.
        listed: patterns of weights.
        finder: of ranges on samples, or None for ranges found at each run.
        exceptions: of the recipe for this graph; products with a weight that is one of them stay
            float32, whatever the weight is stored in.
        weights: what takes the place of some, see `quantize`.

    Raises:
        TargetError: a pattern is for no such weight.
    """
    graph = GraphEditor(model)
    linear = integer.linear_layers(graph)
    found = list(dict.fromkeys(node.input[1] for node in linear))
    for pattern in listed:
        what = f"matrix of the {name} that a map is multiplied with"
        patterns.check(found, what, "quantize", "integer", name, pattern)
    chosen = {weight for pattern in listed for weight in patterns.matching(found, pattern)}
    chosen -= {weight for item in exceptions or {} for weight in patterns.matching(found, item)}
    layers = [node for node in linear if node.input[1] in chosen]
    products = integer.Integer(graph)
    outputs = {node.output[0] for node in layers}
    if finder is not None:
        roots = sorted({products.root(node.input[0], outputs) for node in layers})
        products.ranges = finder.find(model, roots)
    _replace(graph, chosen, weights or {})
    for node in layers:
        products.linear(node, outputs)
    return graph.finish()


def _replace(graph: GraphEditor, names: Iterable[str], weights: Mapping[str, Array]) -> None:
    """Give constants of these names other values, as far as there are some.

    Matrices (I, O) lie the other way round than the module's.
    """
    for name in weights.keys() & names:
        value = weights[name]
        outputs, matrix = len(value), graph.constants[name].ndim == 2
        if matrix and value.ndim == 4:  # an unfolded kernel: see `rewrite`
            value = value.transpose(0, 2, 3, 1)
        graph.constants[name] = value.reshape(outputs, -1).T if matrix else value


def _store_weights(
    model: Node,
    name: str,
    recipe: Recipe,
    settings: Settings,
    finder: ranges.Finder,
    chosen: Mapping[str, Array],
) -> Node:
    graph = GraphEditor(model)
    found = store.weights(graph, recipe.weight_threshold)
    exceptions: Mapping[str, str] = recipe.exceptions.get(name, {})
    for pattern in exceptions:
        patterns.check(found, f"weight of the {name}", "exceptions", name, pattern)
    kinds = stored_types(found, recipe, name)
    if recipe.weights == "int4":
        from mobilesam_export.backends.onnx import compensation  # with torch; files run without

        layers = [
            layer
            for layer in integer.linear_layers(graph)
            if layer.input[1] in found
            and takes_four_bits(
                layer.input[1], graph.constants[layer.input[1]].shape[0], recipe, name
            )
        ]
        for layer, packed in compensation.four_bits(graph, model, layers, recipe, finder):
            store.store_four_bits(graph, layer, packed, settings.accuracy_level)
            kinds.pop(layer.input[1], None)  # products may share a matrix
    _replace(graph, kinds, chosen)
    for weight, kind in kinds.items():
        store.store(graph, weight, kind, found[weight])
    return graph.finish()


def stored_types(weights: Iterable[str], recipe: Recipe, name: str) -> dict[str, str]:
    """How each of these weights of a graph is stored, unless `takes_four_bits`."""
    excepted = patterns.stored_types({w: w for w in weights}, recipe.exceptions.get(name, {}))
    return {weight: excepted.get(weight, store.INT8) for weight in weights}


def takes_four_bits(weight: str, inputs: int, recipe: Recipe, name: str) -> bool:
    """Whether a matrix with so many inputs is stored in four bits, if it is over the threshold."""
    excepted = any(patterns.matches(weight, item) for item in recipe.exceptions.get(name, {}))
    return recipe.weights == "int4" and not excepted and inputs % recipe.group_size == 0


def _answers(model: Node, samples: Sequence[Sample]) -> list[Array]:
    """The first output for each sample."""
    outputs = [item.name for item in model.graph.output]
    main = [name for name in outputs if name in ("image_embeddings", "low_res_masks")]
    return [found[main[0]] for found in ranges.observe(model, main[:1], samples)]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _patterns(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
