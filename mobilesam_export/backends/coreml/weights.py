"""Fewer bits for the weights of a Core ML program: a program and a recipe -> a smaller program.

coremltools does it; here is what it is told. Nothing in it depends on chance or on the number of
threads, so that the same export gives the same bytes.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import threadpoolctl

from mobilesam_export.backends.compensation import chosen_weights
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreml import names
from mobilesam_export.backends.coreml.compensation import Grid
from mobilesam_export.graphs import Graph
from mobilesam_export.quiet import quiet
from mobilesam_export.target import Recipe, patterns


def compress(model: Any, recipe: Recipe, graph: Graph) -> Any:
    """Store the weights of a converted program as the recipe says.

    Args:
        model: an MLModel in float16; it is not changed.
        recipe: with compressed weights.
        graph: what the program was converted from.

    Returns:
        An MLModel that decompresses its weights when it is loaded.

    Raises:
        TargetError: an exception is for no weight of the graph.
    """
    with quiet():
        import coremltools.optimize.coreml as cto

    kinds = _exceptions(weight_names(model), recipe, graph)
    config = cto.OptimizationConfig(
        global_config=_default_config(recipe),
        op_name_configs={
            name: _exception_config(recipe, kind)
            for name, kind in kinds.items()
            if kind != "int8"  # as all of that recipe; what is excepted is its arithmetic
        },
    )
    run = cto.linear_quantize_weights if recipe.weights == "int8" else cto.palettize_weights
    # With more threads, k-means adds up its clusters in an order that differs between runs.
    with threadpoolctl.threadpool_limits(1):
        return run(model, config)


def chosen_numbers(model: Any, recipe: Recipe, graph: Graph, conversion: Conversion) -> list[Any]:
    """Passes that put in weights chosen by their products, if the recipe says so.

    Args:
        model: an MLModel in float16; it is not changed.
        recipe: with int8 weights.
        graph: what the program was converted from, float32.
        conversion: with samples.

    Returns:
        For `passes.applied`.
    """
    from mobilesam_export.backends.coreml import passes

    sizes = _weight_sizes(model)
    paths, kinds = names.weight_paths(sizes, graph.module), _exceptions(sizes, recipe, graph)
    rounded = {
        constant: path
        for constant, path in paths.items()
        if kinds.get(constant, "int8") == "int8" and sizes[constant] > recipe.weight_threshold
    }
    chosen = chosen_weights(graph, conversion, rounded.values())
    values = {
        constant: chosen[path].astype(np.float16)
        for constant, path in rounded.items()
        if path in chosen
    }
    return [passes.replace_constants(values)] if values else []


def grids(model: Any, recipe: Recipe, graph: Graph) -> dict[str, Grid]:
    """What each weight that gets a palette may be; see `compress`."""
    sizes = _weight_sizes(model)
    kinds = dict.fromkeys(sizes, (recipe.weights, recipe.group_size))
    kinds |= {name: (kind, 0) for name, kind in _exceptions(sizes, recipe, graph).items()}
    return {
        name: Grid(2 ** int(weights.removeprefix("palette")), group)
        for name, (weights, group) in kinds.items()
        if weights != "float16" and sizes[name] > recipe.weight_threshold
    }


def weight_names(model: Any) -> list[str]:
    """Names of the constants that lie in the weight file, in the program's order."""
    return [*_weight_sizes(model)]


def _weight_sizes(model: Any) -> dict[str, int]:
    return {
        operation.outputs[0].name: math.prod(
            size.constant.size for size in operation.outputs[0].type.tensorType.dimensions
        )
        for function in model.get_spec().mlProgram.functions.values()
        for block in function.block_specializations.values()
        for operation in block.operations
        if operation.type == "const" and operation.attributes["val"].HasField("blobFileValue")
    }


def _default_config(recipe: Recipe) -> Any:
    """Settings of coremltools for every weight that is no exception."""
    import coremltools.optimize.coreml as cto

    if recipe.weights == "int8":
        return cto.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype="int8",
            granularity=recipe.granularity,
            weight_threshold=recipe.weight_threshold,
        )
    groups = {"group_size": recipe.group_size} if recipe.group_size else {}
    return _palettizer(recipe, recipe.weights, granularity=recipe.granularity, **groups)


def _exception_config(recipe: Recipe, weights: str) -> Any:
    """Settings of coremltools for an exception; None leaves a weight as it is."""
    if weights == "float16":
        return None
    return _palettizer(recipe, weights, granularity="per_tensor")


def _palettizer(recipe: Recipe, weights: str, **options: Any) -> Any:
    import coremltools.optimize.coreml as cto

    return cto.OpPalettizerConfig(
        mode="kmeans",
        nbits=int(weights.removeprefix("palette")),
        weight_threshold=recipe.weight_threshold,
        **options,
    )


def _exceptions(constants: Iterable[str], recipe: Recipe, graph: Graph) -> dict[str, str]:
    """By name of a constant that the recipe excepts, what it is stored as."""
    paths = names.weight_paths(constants, graph.module)
    name = graph.spec.name
    kinds: Mapping[str, str] = recipe.exceptions.get(name, {})
    for pattern in kinds:
        patterns.check(paths.values(), f"weight of the {name}", "exceptions", name, pattern)
    return patterns.stored_types(paths, kinds)
