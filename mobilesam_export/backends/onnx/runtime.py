"""ONNX files run by ONNX Runtime, on any of its execution providers that this package knows."""

import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.backends.onnx import observe
from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import BackendError, first_line
from mobilesam_export.session import Session

# Execution providers by our name. The GPU's computes what it cannot run on the CPU.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# Which kernels compute: those of a processor differ by its architecture.
LABELS = {"cpu": f"CPU ({platform.machine()})", "cuda": "CUDA", "tensorrt": "TensorRT"}


def devices(why_unavailable: str = "") -> dict[str, str]:
    """Execution providers by our name -> why not here, or ""; `why_unavailable` if there is none.

    Only what this installation of ONNX Runtime was built with counts as here.
    """
    if why_unavailable:
        return dict.fromkeys(PROVIDERS, why_unavailable)
    import onnxruntime

    here = onnxruntime.get_available_providers()
    return {
        name: "" if provider in here else f"this ONNX Runtime has no {provider}"
        for name, provider in PROVIDERS.items()
    }


def load(path: Path, spec: GraphSpec, device: str, threads: int) -> Session:
    """Open a file with one provider, the CPU's unless told otherwise; see `Backend.load`."""
    import onnxruntime

    device = device or "cpu"
    if reason := devices().get(device, "no such device"):
        raise BackendError(f"cannot run {path.name} on {device}: {reason}")
    if device != "cpu" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # NVIDIA's libraries where pip has put them; says nothing if not
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads
    providers = list(dict.fromkeys([PROVIDERS[device], PROVIDERS["cpu"]]))
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as exc:  # onnxruntime's errors share no public base class
        raise BackendError(f"ONNX Runtime cannot load {path}: {first_line(exc)}") from exc
    if session.get_providers()[0] != PROVIDERS[device]:  # its libraries are not there: only a log
        raise BackendError(f"ONNX Runtime cannot start {PROVIDERS[device]} here")
    found = {item.name for item in (*session.get_inputs(), *session.get_outputs())}
    expected = {item.name for item in (*spec.inputs, *spec.outputs)}
    if found != expected:
        raise BackendError(f"{path} is not the {spec.name}: its tensors are {sorted(found)}")

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        names = [item.name for item in session.get_outputs()]
        try:
            return dict(zip(names, session.run(names, inputs), strict=True))
        except Exception as exc:  # as above
            raise BackendError(f"ONNX Runtime failed on {path.name}: {first_line(exc)}") from exc

    return Session(
        run,
        f"ONNX Runtime {onnxruntime.__version__}, {LABELS[device]}",
        resident=None if device == "cpu" else partial(_resident, session, "cuda"),
        largest=partial(observe.largest_activation, path),
        observe=partial(observe.observe, path),
    )


def _resident(
    session: Any,
    device: str,
    inputs: dict[str, Array],
) -> tuple[Callable[[], None], Callable[[], dict[str, Array]]]:
    """See `Session.resident`; inputs and outputs lie in the memory of `device`, as ORT names it."""
    import onnxruntime

    binding = session.io_binding()
    for name, array in inputs.items():
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device, 0)
        binding.bind_ortvalue_input(name, value)
    names = [item.name for item in session.get_outputs()]
    for name in names:
        binding.bind_output(name, device)

    def rerun() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    def fetch() -> dict[str, Array]:
        return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))

    return rerun, fetch
