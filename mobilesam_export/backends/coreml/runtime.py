"""Packages run by Core ML on a Mac, or elsewhere by the MIL interpreter.

Core ML is part of macOS. The interpreter proves the saved program, but nothing about the kernels of
any one chip, and its times say nothing of Core ML's: it is no device.
"""

import platform
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.backends.protocol import Around
from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import BackendError, first_line
from mobilesam_export.quiet import quiet
from mobilesam_export.session import Session

# Core ML's compute units by our name; see coremltools.ComputeUnit.
COMPUTE_UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu+gpu": "CPU_AND_GPU", "cpu+ne": "CPU_AND_NE"}
INTERPRETER = "MIL interpreter"
NOTE = (
    f"no chip has run these files: the {INTERPRETER} computes the saved program operation by "
    "operation, in the number formats that it declares; it is not bit-exact with any device and "
    "says nothing about speed"
)


def is_core_ml_here() -> bool:
    """Whether this is macOS."""
    return platform.system() == "Darwin"


def devices() -> dict[str, str]:
    """Core ML's compute units -> why not here, or ""."""
    return dict.fromkeys(COMPUTE_UNITS, "" if is_core_ml_here() else "Core ML needs macOS")


def load(path: Path, spec: GraphSpec, device: str) -> Session:
    """Open a package; see `Backend.load`. Core ML chooses its threads by itself."""
    if device and (reason := devices().get(device, "no such device")):
        raise BackendError(f"cannot run {path.name} on {device}: {reason}")
    return _core_ml(path, spec, device or "all") if is_core_ml_here() else interpreter(path)


def interpreter(path: Path) -> Session:
    """Open a package with the MIL interpreter, which rounds as the package declares its types.

    Raises:
        BackendError: an operation is unknown. BundleError: the package is damaged.
    """
    from mobilesam_export.backends.coreml import observe
    from mobilesam_export.mil import load_program

    found = load_program(path, mode="float16")
    declared = {value.dtype for op in found.program.operations for value in op.outputs}
    precision = "float16" if "float16" in declared else "float32"
    return Session(
        found.run,
        f"{INTERPRETER}, {precision}",
        note=NOTE,
        largest=partial(observe.largest_activation, found),
        observe=partial(observe.observe, found),
    )


def stepwise(path: Path, around: Around) -> Session:
    """Open a package with the MIL interpreter; see `Backend.stepwise`."""
    from mobilesam_export.mil import Operation, load_program

    found = load_program(path, mode="float16")

    def in_context(operation: Operation) -> AbstractContextManager[object]:
        declared = {value.dtype for value in operation.outputs}
        return around(operation.outputs[0].name) if "float16" in declared else nullcontext()

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        return found.run(inputs, around=in_context)

    return Session(run, f"{INTERPRETER}, step by step")


def _core_ml(path: Path, spec: GraphSpec, device: str) -> Session:
    with quiet():
        import coremltools as ct
    from PIL import Image

    try:
        units = ct.ComputeUnit[COMPUTE_UNITS[device]]
        model = ct.models.MLModel(str(path), compute_units=units)
    except Exception as exc:  # Core ML's errors come as bare exceptions
        raise BackendError(f"Core ML cannot load {path}: {first_line(exc)}") from exc

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        values: dict[str, Any] = dict(inputs)
        if "image" in values:
            values["image"] = Image.fromarray(np.asarray(values["image"][0], np.uint8))
        try:
            outputs = model.predict(values)
        except Exception as exc:  # as above
            raise BackendError(f"Core ML failed on {path.name}: {first_line(exc)}") from exc
        return {item.name: np.asarray(outputs[item.name]) for item in spec.outputs}

    return Session(run, f"Core ML on macOS {platform.mac_ver()[0]}, {device}")
