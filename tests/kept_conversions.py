"""What converters make of a graph, made once in a session: most of the time of an export.

TFLite's and ONNX's converters take a graph of the same modules and weights to the same file, before
a recipe's numbers are put into it (`test_the_same_export_gives_the_same_bytes`), so exports by
several recipes need it once. For `warm(..., before=...)`.
"""

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock


def keep_conversions(folder: Path) -> None:
    """Read from a folder what was converted before, and write to it what was not."""
    import onnx

    from mobilesam_export.backends.onnx import convert as onnx_convert
    from mobilesam_export.backends.tflite import convert as tflite_convert

    float32, exported = tflite_convert._float32, onnx_convert._exported
    folder.mkdir(exist_ok=True)

    def kept_float32(graph: Any, *, for_gpu: bool) -> bytes:
        key = _key("tflite", graph, for_gpu)
        return _once(folder / key, lambda: float32(graph, for_gpu=for_gpu))

    def kept_exported(graph: Any, conversion: Any, opset: int) -> Any:
        recipe = conversion.recipe
        number = (recipe.weights == "float16", recipe.keep_float32, opset, conversion.contract)
        key = _key("onnx", graph, *number)
        make = lambda: exported(graph, conversion, opset).SerializeToString()  # noqa: E731
        return onnx.load_from_string(_once(folder / key, make))

    tflite_convert._float32 = kept_float32
    onnx_convert._exported = kept_exported


class _Pickler(pickle.Pickler):
    """Tensors by their values: torch's own way has addresses in it."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor):
            values = obj.detach().contiguous().numpy()
            return _Pickler, (values.shape, values.dtype.str, values.tobytes())
        return NotImplemented


def _key(*parts: Any) -> str:
    """Of modules with their weights and attributes, and of whatever else decides the result."""
    content = io.BytesIO()
    _Pickler(content).dump(parts)
    return hashlib.sha256(content.getvalue()).hexdigest()


def _once(path: Path, make: Callable[[], bytes]) -> bytes:
    with FileLock(f"{path}.lock"):
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(make())
            part.rename(path)
    return path.read_bytes()
