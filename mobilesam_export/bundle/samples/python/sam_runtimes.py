"""Loads the files of a bundle in the runtime of their kind, on the CPU."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Run = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]


def load_onnx(path: Path, graph: str, threads: int) -> Run:
    """An .onnx file in ONNX Runtime; `threads` 0: its own choice."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def load_tflite(path: Path, graph: str, threads: int) -> Run:
    """A .tflite file in LiteRT with XNNPACK, by its signature."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads or None)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner(graph)
    return lambda inputs: runner(**inputs)


LOADERS: dict[str, Callable[[Path, str, int], Run]] = {"onnx": load_onnx, "tflite": load_tflite}
