"""Programs run by ExecuTorch with the delegate that they were lowered to.

The runtime has one pool of threads, which every program in the process keeps a pointer to: its
size can be chosen until the first program is loaded, and not later.
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.backends.executorch.delegates import delegates_of
from mobilesam_export.backends.executorch.program import METHOD, check_whole
from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import BackendError, first_line
from mobilesam_export.quiet import quiet_descriptors
from mobilesam_export.session import Session

# c10::ScalarType, as MethodMeta has it -> names of numpy
TYPES = {0: "uint8", 1: "int8", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 11: "bool"}
_loaded: list[str] = []  # whether programs hold the pool


def load(path: Path, spec: GraphSpec, threads: int) -> Session:
    """Open a file; see `Backend.load`."""
    content = check_whole(path)
    with quiet_descriptors():
        import torch
        from executorch.runtime import Runtime, Verification

        _set_threads(threads)
        try:
            program = Runtime.get().load_program(
                path, verification=Verification.InternalConsistency
            )
            method = program.load_method(METHOD)
        except (RuntimeError, KeyError) as exc:
            raise BackendError(f"ExecuTorch cannot load {path}: {first_line(exc)}") from exc
        _loaded.append(path.name)
    assert method is not None
    _check_interface(path, method.metadata, spec)

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        assert program is not None  # the method's memory is the program's
        tensors = [
            torch.from_numpy(np.array(inputs[item.name], item.dtype)) for item in spec.inputs
        ]
        try:
            outputs = method.execute(tensors)
        except RuntimeError as exc:
            raise BackendError(f"ExecuTorch failed on {path.name}: {first_line(exc)}") from exc
        named = zip(spec.outputs, outputs, strict=True)
        return {item.name: np.array(value.numpy()) for item, value in named}

    names = ", ".join(delegate.name for delegate in delegates_of(content))
    runtime = f"ExecuTorch {version('executorch')}, {names}, CPU ({platform.machine()})"
    return Session(run, runtime)


def _set_threads(threads: int) -> None:
    from executorch.extension.pybindings import portable_lib

    wanted = threads or (0 if _loaded else os.cpu_count() or 1)
    found = portable_lib._threadpool_get_thread_count()
    if not wanted or wanted == found:
        return
    if _loaded:
        raise BackendError(
            f"ExecuTorch runs with {found} threads in this process, expected {wanted}: its "
            "programs share one pool; use another process, or the same number"
        )
    portable_lib._unsafe_reset_threadpool(wanted)


def _check_interface(path: Path, meta: Any, spec: GraphSpec) -> None:
    """Programs have no names of tensors: their order, shapes and types are the interface."""
    sides = (
        ("inputs", spec.inputs, meta.num_inputs(), meta.input_tensor_meta),
        ("outputs", spec.outputs, meta.num_outputs(), meta.output_tensor_meta),
    )
    for side, items, count, tensor in sides:
        expected = [(tuple(item.shape), item.dtype) for item in items]
        tensors = [tensor(index) for index in range(count)]
        found = [(tuple(t.sizes()), TYPES.get(t.dtype(), str(t.dtype()))) for t in tensors]
        if found != expected:
            raise BackendError(
                f"{path} is not the {spec.name} of the manifest: its {side} are {found}, expected "
                f"{expected}; export it again"
            )
