"""Delegates that a program can be lowered to: what takes its ops, and where that runs."""

import hashlib
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from mobilesam_export import packages
from mobilesam_export.backends.executorch import transposes
from mobilesam_export.backends.mlpackage import make_reproducible
from mobilesam_export.errors import ConversionError
from mobilesam_export.quiet import quiet_descriptors


@dataclass(frozen=True)
class Delegate:
    """One of `DELEGATES`.

    Attributes:
        name: for people.
        backend: its name in programs and in ExecuTorch's registry.
        place: the processor that it computes on, for results of a device; "" where no script of
            ours can time it.
        elsewhere: what to do where this machine's ExecuTorch lacks it.
    """

    name: str
    backend: str
    place: str
    elsewhere: str


DELEGATES = {
    "xnnpack": Delegate("XNNPACK", "XnnpackBackend", "cpu", ""),
    "vulkan": Delegate(
        *("Vulkan", "VulkanBackend", "gpu"),
        "run the files on an Android device (`device-script`) and compare with golden/",
    ),
    "coreml": Delegate(
        *("Core ML", "CoreMLBackend", ""),
        "run the files in an app on an Apple device and compare with golden/",
    ),
}
DEFAULT = "xnnpack"
# Its cast of the image stays outside: the delegate's converter takes no uint8.
CAST = "dim_order_ops._to_dim_order_copy.default"


def delegates_of(content: bytes) -> tuple[Delegate, ...]:
    """Those whose names a program contains, which are in no other place of it."""
    return tuple(item for item in DELEGATES.values() if item.backend.encode() in content)


def why_not_here(key: str) -> str:
    """Why this machine's ExecuTorch, which is installed, cannot run a delegate; "" if it can."""
    with quiet_descriptors():  # it says which of its libraries are not for this machine
        from executorch.extension.pybindings import portable_lib

    delegate = DELEGATES[key]
    if delegate.backend in portable_lib._get_registered_backend_names():
        return ""
    return f"the ExecuTorch of this machine has no {delegate.name} delegate: {delegate.elsewhere}"


def partitioner(key: str, *, half: bool) -> Any:
    """What chooses ops for a delegate.

    Args:
        key: of DELEGATES.
        half: whether it computes in float16; inputs and outputs are float32 all the same.

    Raises:
        ConversionError: what it is made with is not installed.
    """
    if key == "vulkan":
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

        return VulkanPartitioner({"force_fp16": half})
    if key == "coreml":
        return _coreml_partitioner(half)
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return XnnpackPartitioner()


def _coreml_partitioner(half: bool) -> Any:
    if reason := packages.why_missing("coremltools", extra="coreml"):
        raise ConversionError(f"programs for the Core ML delegate are made with it, but {reason}")
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    specs = CoreMLBackend.generate_compile_specs(
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS17,  # the oldest that ExecuTorch's package takes
    )
    return CoreMLPartitioner(compile_specs=specs, skip_ops_for_coreml_delegation=[CAST])


def lowering(key: str, exported: Any) -> AbstractContextManager[object]:
    """What a program must be lowered inside of, so that it is good and the same each time."""
    if key == "coreml":
        return _named_by_content(exported)
    return transposes.cancelled() if key == "xnnpack" else nullcontext()


@contextmanager
def _named_by_content(exported: Any) -> Iterator[None]:
    """Core ML's delegate keeps compiled models by a name, which is random without this.

    Two models must not share one; the same model has the same. It is also the name of a temporary
    folder, so that these get a place of their own.
    """
    from executorch.backends.apple.coreml.compiler import coreml_preprocess

    def flatten(folder: str) -> Any:
        for package in Path(folder).rglob("*.mlpackage"):
            make_reproducible(package)
        return flatten_as_it_is(folder)

    written = coreml_preprocess.executorchcoreml
    flatten_as_it_is = written.flatten_directory_contents
    digest = hashlib.sha256(str(exported.graph).encode())
    for name, tensor in sorted({**exported.state_dict, **exported.constants}.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    named = uuid.UUID(bytes=digest.digest()[:16], version=4)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(tempfile, "tempdir", folder),
        mock.patch.object(coreml_preprocess, "uuid", SimpleNamespace(uuid4=lambda: named)),
        mock.patch.object(written, "flatten_directory_contents", flatten),
    ):
        yield
