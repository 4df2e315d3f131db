"""An image that is larger than the encoder's input is an error of the runtime, never a crop.

The encoder of SAM's own contract takes (H, W, 3) and pads it to S x S. For H or W above S the
padding is negative, and ONNX's Pad then crops without a word.
"""

from typing import Any

import numpy as np


def refuse_larger_images(model: Any, side: int) -> None:
    """Pad by 0 where an image is too large, and let a Reshape to S x S fail on what comes out.

    The Reshape changes nothing otherwise. Its name stands in ONNX Runtime's message.

    Args:
        model: an encoder with one Pad whose amounts are computed; changed in place.
        side: S.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {item.name for item in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    (place,) = [
        index
        for index, node in enumerate(graph.node)
        if node.op_type == "Pad" and node.input[1] not in constants
    ]
    pad = graph.node[place]
    amounts, padded = pad.input[1], pad.output[0]
    zero, shape = np.zeros(1, np.int64), np.array([1, 3, side, side], np.int64)
    graph.initializer.append(numpy_helper.from_array(zero, "limit_zero"))
    graph.initializer.append(numpy_helper.from_array(shape, "limit_shape"))
    pad.input[1], pad.output[0] = "limit_amounts", "limit_padded"
    name = f"image_height_and_width_up_to_{side}"
    graph.node.insert(
        place + 1, helper.make_node("Reshape", ["limit_padded", "limit_shape"], [padded], name)
    )
    graph.node.insert(place, helper.make_node("Max", [amounts, "limit_zero"], ["limit_amounts"]))
