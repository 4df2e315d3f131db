"""What is inside a Core ML program while the MIL interpreter runs it."""

import torch

from mobilesam_export.contract import Array
from mobilesam_export.mil import Interpreter, Operation, Value
from mobilesam_export.session import Visit

# What the encoder sees of an image, or the decoder of its embedding; else same for all images.
IMAGES = ("image", "image_embeddings")


def largest_activation(interpreter: Interpreter, inputs: dict[str, Array]) -> tuple[str, float]:
    """Name and absolute value of the largest float16 value, before rounding; NaN is largest."""
    peak = ("", 0.0)

    def look(_: Operation, value: Value, tensor: torch.Tensor) -> None:
        nonlocal peak
        if value.dtype == "float16" and tensor.numel():
            magnitude = float(tensor.abs().max())
            if not magnitude <= peak[1]:
                peak = (value.name, magnitude)

    interpreter.run(inputs, look)
    return peak


def observe(interpreter: Interpreter, inputs: dict[str, Array], visit: Visit) -> None:
    """Show every float value that depends on the image, in order, named with its operation."""
    reached = {*IMAGES}

    def show(operation: Operation, value: Value, tensor: torch.Tensor) -> None:
        taken = {name for names in operation.inputs.values() for name in names}
        if not taken & reached:
            return
        reached.add(value.name)
        if tensor.is_floating_point():
            rounded = tensor.half() if value.dtype == "float16" else tensor
            visit(f"{value.name} ({operation.kind})", rounded.numpy())

    interpreter.run(inputs, show)
