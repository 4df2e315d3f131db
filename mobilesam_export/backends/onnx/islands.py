"""Layers of a float16 model that are computed in float32.

ONNX Runtime's ARM build adds products up in float16: a convolution over 2,304 products loses 56 dB
there, where the same on x86 is computed in float32. A layer in float32 takes its input through a
Cast and gives its result through another. Its weights stay stored in float16, and the runtime casts
them once, when it loads the file.
"""

from collections.abc import Sequence

from mobilesam_export.backends.onnx.graph import Node
from mobilesam_export.target import patterns


def keep_float32(model: Node, layers: Sequence[str]) -> None:
    """Compute layers in float32.

    Args:
        model: with float16 weights that have their names in the export form; changed in place.
        layers: patterns of their weights, see `target.patterns`.
    """
    import onnx

    graph, float16 = model.graph, onnx.TensorProto.FLOAT16
    weights = {item.name for item in graph.initializer if item.data_type == float16}
    kept = {name for pattern in layers for name in patterns.matching(weights, pattern)}
    if not kept:
        return
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    types |= dict.fromkeys(weights, float16)
    nodes, widened = list(graph.node), set[str]()
    del graph.node[:]
    for node in nodes:
        if not kept & {*node.input}:
            graph.node.append(node)
            continue
        (output,) = node.output
        for index, name in enumerate(node.input):
            if types.get(name) == float16:
                node.input[index] = f"{name}/float32"
                if name not in widened:
                    widened.add(name)
                    graph.node.append(_cast(name, node.input[index], onnx.TensorProto.FLOAT))
        node.output[0] = f"{output}/wide"
        graph.node.append(node)
        graph.node.append(_cast(node.output[0], output, float16))


def _cast(source: str, target: str, kind: int) -> Node:
    import onnx

    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=kind)
