"""A graph -> an ONNX file, by torch's exporter, simplified where that helps.

torch writes a clean graph of the export form as it is. Offline optimizers have been seen to change
what MobileSAM computes, so what they make is compared before it is taken (`simplify`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mobilesam_export.backends.compensation import chosen_weights
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.onnx import islands, quantize, simplify
from mobilesam_export.backends.onnx.image_limit import refuse_larger_images
from mobilesam_export.backends.onnx.integer import WEIGHT_BITS
from mobilesam_export.backends.onnx.ranges import Finder
from mobilesam_export.backends.onnx.settings import OnnxSettings
from mobilesam_export.backends.onnx.simulate import INT8_BITS, stored_bits
from mobilesam_export.contract import Array, Contract, GraphSpec, TensorSpec
from mobilesam_export.errors import ConversionError, first_line
from mobilesam_export.graphs import Graph, in_float16
from mobilesam_export.quiet import quiet

IR_VERSION = 9  # ONNX 1.15's, which has opset 20; ONNX Runtime 1.17 and newer read it
IR_OF_OPSET = {21: 10, 22: 10, 23: 11}  # of the ONNX releases with these opsets

ADDED = ("masks", "orig_im_size")  # what only ONNX can compute is added to torch's graph

# SAM's post-processing: to S x S, crop the padding, to the image's size. `{side}` is S.
UPSCALE = """
upscale (float[1,1,L,L] low_res_masks, float[2] orig_im_size) => (float[1,1,height,width] masks)
<float up_side = {{{side}.0}}, float up_half = {{0.5}}, int64[2] up_square = {{{side}, {side}}},
 int64[2] up_origin = {{0, 0}}, int64[2] up_axes = {{2, 3}}>
{{
    up_longest = ReduceMax <keepdims = 0> (orig_im_size)
    up_scale = Div(up_side, up_longest)
    up_scaled = Mul(orig_im_size, up_scale)
    up_rounded = Add(up_scaled, up_half)
    up_resized = Cast <to = 7> (up_rounded)
    up_full = Resize <mode = "linear", axes = [2, 3]> (low_res_masks, , , up_square)
    up_cropped = Slice(up_full, up_origin, up_resized, up_axes)
    up_size = Cast <to = 7> (orig_im_size)
    masks = Resize <mode = "linear", axes = [2, 3]> (up_cropped, , , up_size)
}}
"""


def convert(graph: Graph, conversion: Conversion, path: Path) -> None:
    """Write one graph as an ONNX file; see `Backend.convert`."""
    import onnx

    settings, recipe = conversion.settings, conversion.recipe
    assert isinstance(settings, OnnxSettings)
    model = conversion.once(graph.spec.name, lambda: _exported(graph, conversion, settings.opset))
    inputs = [spec.name for spec in graph.spec.inputs if spec.name not in ADDED]
    examples, quantization = [_example(graph, inputs)], settings.quantization
    if quantization is not None:
        finder = conversion.once(
            f"{graph.spec.name} ranges",
            lambda: Finder(
                conversion.samples, quantization.ranges, quantization.percentile, examples
            ),
        )
        chosen = _chosen_weights(graph, conversion, quantization)
        model = quantize.quantize(model, graph.spec.name, recipe, quantization, finder, chosen)
    else:
        model, conversion.steps[simplify.STEP] = simplify.simplified(model, examples)
    model.ir_version = IR_OF_OPSET.get(settings.opset, IR_VERSION)
    _describe(model, graph.spec, conversion)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as exc:
        raise ConversionError(f"the {graph.spec.name} is not valid ONNX: {exc}") from exc
    path.write_bytes(model.SerializeToString(deterministic=True))


def _chosen_weights(
    graph: Graph, conversion: Conversion, quantization: quantize.Settings
) -> dict[str, Array]:
    """By name, weights that become int8, chosen by their products if the recipe says so."""
    stored, chosen = stored_bits(graph, conversion.recipe, quantization), dict[str, Array]()
    for bits in (WEIGHT_BITS, INT8_BITS):
        names = [name for name, found in stored.items() if found == bits]
        chosen |= chosen_weights(graph, conversion, names, bits)
    return chosen


def _exported(graph: Graph, conversion: Conversion, opset: int) -> Any:
    """The graph as torch writes it, whole and with its weights' names, not compressed."""
    contract, recipe = conversion.contract, conversion.recipe
    half = recipe.weights == "float16"
    module = in_float16(graph.module, recipe.keep_float32) if half else graph.module
    outputs = [item.name for item in graph.spec.outputs]
    if contract.dynamic and graph.spec.name == "decoder":  # the rest is added below
        outputs = ["low_res_masks", "iou_predictions"]
    try:
        with quiet():
            program = torch.onnx.export(
                module,
                graph.example_inputs(),
                dynamo=True,
                opset_version=opset,
                input_names=[item.name for item in graph.spec.inputs if item.name not in ADDED],
                output_names=outputs,
                dynamic_shapes=_dynamic_shapes(graph.spec, contract),
                verbose=False,
            )
            assert program is not None
            model = program.model_proto
    except torch.onnx.errors.OnnxExporterError as exc:
        raise ConversionError(
            f"torch.onnx could not export the {graph.spec.name}: {first_line(exc)}"
        ) from exc
    if contract.dynamic and graph.spec.name == "decoder":
        _add_upscaling(model, contract.image_size)
    if contract.form.image_input == "sam" and graph.spec.name == "encoder":
        refuse_larger_images(model, contract.image_size)
    _name_weights(model, module)
    if half:
        islands.keep_float32(model, recipe.keep_float32)
    return model


def _dynamic_shapes(spec: GraphSpec, contract: Contract) -> list[dict[int, Any]] | None:
    if not contract.dynamic:
        return None
    limits = {"height": contract.image_size, "width": contract.image_size}
    dims: dict[str, Any] = {}

    def axes(item: TensorSpec) -> dict[int, Any]:
        names = {i: axis for i, axis in enumerate(item.shape) if isinstance(axis, str)}
        for name in names.values():
            dims.setdefault(name, torch.export.Dim(name, min=1, max=limits.get(name, 1024)))
        return {i: dims[name] for i, name in names.items()}

    return [axes(item) for item in spec.inputs if item.name not in ADDED]


def _add_upscaling(model: Any, side: int) -> None:
    """Append SAM's post-processing, whose output size is an input, to a decoder."""
    import onnx

    upscaling = onnx.parser.parse_graph(UPSCALE.format(side=side))
    graph = model.graph
    graph.node.extend(upscaling.node)
    graph.initializer.extend(upscaling.initializer)
    graph.input.append(upscaling.input[1])
    outputs = [upscaling.output[0], *reversed(graph.output)]  # SAM's order: masks, iou, low_res
    del graph.output[:]
    graph.output.extend(outputs)


def _example(graph: Graph, names: list[str]) -> dict[str, Array]:
    """An input by name, with an image's size where the graph was given one."""
    values = [value.numpy() for value in graph.example_inputs()]
    sizes = {"orig_im_size": np.array([192, 256], np.float32)}
    known = {item.name for item in graph.spec.inputs}
    return dict(zip(names, values, strict=True)) | {k: v for k, v in sizes.items() if k in known}


def _name_weights(model: Any, module: nn.Module) -> None:
    """Give matrices that torch's exporter has transposed the names of their parameters."""
    from onnx import numpy_helper

    names = {
        (value.shape[::-1], value.detach().float().numpy().T.tobytes()): name
        for name, value in module.named_parameters()
        if value.ndim == 2
    }
    renamed: dict[str, str] = {}
    for item in model.graph.initializer:
        if item.name.startswith("val_") and len(item.dims) == 2:
            array = numpy_helper.to_array(item).astype(np.float32)
            name = names.get((array.shape, array.tobytes()))
            if name is not None and name not in renamed.values():
                renamed[item.name] = name
                item.name = name
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def _describe(model: Any, spec: GraphSpec, conversion: Conversion) -> None:
    """Say what the file is, and remove the exporter's notes on this machine's source files."""
    graph, metadata = model.graph, conversion.metadata
    model.producer_name = "mobilesam-export"
    model.producer_version = metadata["version"]
    model.doc_string = metadata["description"]
    del model.metadata_props[:], graph.metadata_props[:]
    for part in (*graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for item in (*graph.input, *graph.output):
        meanings = {tensor.name: tensor.meaning for tensor in (*spec.inputs, *spec.outputs)}
        item.doc_string = meanings[item.name]
    graph.name = f"mobilesam_{spec.name}"
    graph.doc_string = ""
    for key, value in sorted(metadata.items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
