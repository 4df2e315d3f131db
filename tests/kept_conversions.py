"""What converters make of a graph, made once in a session: most of the time of an export.

Each converter takes a graph of the same modules and weights to the same file, before a recipe's
numbers are put into it (`test_the_same_export_gives_the_same_bytes` exports anew), so exports by
several recipes need it once. `warm` and the tests' own process keep conversions, `cold` does not.
"""

import hashlib
import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

FOLDER = "KEPT_CONVERSIONS"  # environment variable that names the folder; empty: nothing is kept


def keep_conversions() -> None:
    """Read from FOLDER what was converted before, and write to it what was not."""
    if not os.environ.get(FOLDER):
        return
    folder = Path(os.environ[FOLDER])
    folder.mkdir(exist_ok=True)
    _keep_tflite(folder)
    _keep_onnx(folder)
    _keep_coreml(folder)


def _keep_tflite(folder: Path) -> None:
    from mobilesam_export.backends.tflite import convert

    float32 = convert._float32

    def kept(graph: Any, *, for_gpu: bool) -> bytes:
        path = folder / _key("tflite", graph, for_gpu)
        _once(path, lambda part: part.write_bytes(float32(graph, for_gpu=for_gpu)))
        return path.read_bytes()

    convert._float32 = kept


def _keep_onnx(folder: Path) -> None:
    from mobilesam_export.backends.onnx import convert

    exported = convert._exported

    def kept(graph: Any, conversion: Any, opset: int) -> Any:
        import onnx

        def make(part: Path) -> None:
            import tests.onnx_registry  # noqa: F401

            onnx.save(exported(graph, conversion, opset), part)

        recipe = conversion.recipe
        number = (recipe.weights == "float16", recipe.keep_float32, opset, conversion.contract)
        path = folder / _key("onnx", graph, *number)
        _once(path, make)
        return onnx.load(path)

    convert._exported = kept


def _keep_coreml(folder: Path) -> None:
    from mobilesam_export.backends.coreml import convert

    converted = convert._converted

    def kept(graph: Any, conversion: Any, settings: Any) -> Any:
        import coremltools as ct

        recipe, system = conversion.recipe, settings.minimum_deployment_target
        number = (recipe.activations == "float32", recipe.keep_float32, system, conversion.contract)
        path = folder / f"{_key('coreml', graph, *number)}.mlpackage"
        _once(path, lambda part: converted(graph, conversion, settings).save(str(part)))
        return ct.models.MLModel(str(path), skip_model_load=True)

    convert._converted = kept


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


def _once(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file or folder, unless it is there; `make` writes it to the path it is given."""
    with FileLock(f"{path}.lock"):
        if not path.exists():
            part = path.with_name(f"part-{path.name}")
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            make(part)
            part.rename(path)
