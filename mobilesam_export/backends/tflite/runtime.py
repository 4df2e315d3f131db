"""TFLite files run by LiteRT's interpreter with its default delegate, XNNPACK, on the CPU."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import BackendError, first_line
from mobilesam_export.quiet import quiet_descriptors
from mobilesam_export.session import Session


def load(path: Path, spec: GraphSpec, device: str, threads: int) -> Session:
    """Open a file; see `Backend.load`."""
    if device not in ("", "cpu"):
        raise BackendError(f"cannot run {path.name} on {device}: no such device")
    with quiet_descriptors():
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
            signatures = interpreter.get_signature_list()
        except (ValueError, RuntimeError) as exc:
            raise BackendError(f"LiteRT cannot load {path}: {first_line(exc)}") from exc
    _check_interface(path, signatures, spec)
    with quiet_descriptors():
        try:
            interpreter.allocate_tensors()
            ask = interpreter.get_signature_runner(spec.name)
        except (ValueError, RuntimeError) as exc:
            raise BackendError(f"LiteRT cannot prepare {path}: {first_line(exc)}") from exc
    _check_shapes(path, {**ask.get_input_details(), **ask.get_output_details()}, spec)

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        try:
            found = ask(**inputs)
        except (ValueError, RuntimeError) as exc:
            raise BackendError(f"LiteRT failed on {path.name}: {first_line(exc)}") from exc
        return {name: np.array(values) for name, values in found.items()}

    runtime = f"LiteRT {version('ai-edge-litert')}, XNNPACK, CPU ({platform.machine()})"
    return Session(run, runtime)


def _check_interface(path: Path, signatures: Mapping[str, Any], spec: GraphSpec) -> None:
    expected = {
        "inputs": sorted(item.name for item in spec.inputs),
        "outputs": sorted(item.name for item in spec.outputs),
    }
    if spec.name not in signatures:
        found = ", ".join(signatures) or "none"
        raise BackendError(
            f"{path} has no signature {spec.name!r} (it has: {found}): it is not the {spec.name} "
            "of a bundle; export it again"
        )
    tensors = {key: sorted(names) for key, names in signatures[spec.name].items()}
    if tensors != expected:
        raise BackendError(f"{path} is not the {spec.name}: its tensors are {tensors}")


def _check_shapes(path: Path, details: Mapping[str, Any], spec: GraphSpec) -> None:
    for item in (*spec.inputs, *spec.outputs):
        found = details[item.name]
        shape, dtype = tuple(map(int, found["shape"])), np.dtype(found["dtype"]).name
        if (shape, dtype) != (tuple(item.shape), item.dtype):
            raise BackendError(
                f"{path} is another {spec.name} than the manifest says: {item.name} is {shape} "
                f"{dtype}, expected {tuple(item.shape)} {item.dtype}; export it again"
            )
