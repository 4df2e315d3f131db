"""ExecuTorch programs for one of its delegates, run by ExecuTorch's own runtime."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilesam_export import packages
from mobilesam_export.backends.conversion import Conversion, Settings
from mobilesam_export.backends.device import DeviceScript
from mobilesam_export.backends.executorch import delegates, settings
from mobilesam_export.backends.protocol import Backend
from mobilesam_export.backends.simulation import Inputs
from mobilesam_export.contract import GraphSpec
from mobilesam_export.errors import BackendError
from mobilesam_export.inspection.graph import GraphDescription, Partitions
from mobilesam_export.session import Session
from mobilesam_export.target import GraphForm, Recipe

if TYPE_CHECKING:
    from mobilesam_export.backends.executorch.describe import Program
    from mobilesam_export.graphs import Graph

EXTRA = "executorch"


class ExecutorchBackend(Backend):
    """`.pte` files; see `Backend` for every member."""

    suffix = ".pte"
    optional = True  # its packages are 400 MB, most of them for delegates that are not used here

    def parse_recipe(
        self, recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]
    ) -> settings.ExecutorchSettings:
        return settings.parse(recipe, form, convert)

    def why_cannot_convert(self) -> str:
        return packages.why_missing("torch", "executorch", extra=EXTRA)

    def convert(self, graph: "Graph", conversion: Conversion, path: Path) -> None:
        from mobilesam_export.backends.executorch.convert import convert

        convert(graph, conversion, path)

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("torch", "executorch")}

    def runner(self) -> str:
        return "ExecuTorch"

    def why_unavailable(self) -> str:
        return packages.why_missing("executorch", extra=EXTRA)

    def why_not_run(self, convert: Mapping[str, Any]) -> str:
        delegate = convert.get("delegate", delegates.DEFAULT)
        if (reason := self.why_unavailable()) or delegate == delegates.DEFAULT:
            return reason
        return delegates.why_not_here(delegate)

    def load(self, path: Path, spec: GraphSpec, device: str = "", threads: int = 0) -> Session:
        if reason := self.devices().get(device or "cpu", "no such device"):
            raise BackendError(f"cannot run {path.name} on {device or 'cpu'}: {reason}")
        from mobilesam_export.backends.executorch import runtime

        return runtime.load(path, spec, threads)

    def describe(self, path: Path) -> GraphDescription:
        return self._program(path).description

    def partitions(self, path: Path) -> Partitions | None:
        return self._program(path).partitions

    def _program(self, path: Path) -> "Program":
        if reason := self.why_unavailable():
            raise BackendError(f"cannot read {path}: {reason}")
        from mobilesam_export.backends.executorch.describe import read

        return read(path)

    def raised_types(self, recipe: Recipe) -> tuple[str, ...]:
        return ("float32",)

    def uncompressed_types(self) -> tuple[str, str]:
        return "float32", "float32"

    def compresses(self, recipe: Recipe, graph: "Graph", name: str) -> bool:
        from mobilesam_export.backends.executorch.quantize import product_weights

        return name in product_weights(graph.module)

    def rounded_inputs(
        self, graph: "Graph", recipe: Recipe, parsed: Settings
    ) -> Mapping[str, Inputs] | None:
        from mobilesam_export.backends.executorch.quantize import products_in_int8

        names = products_in_int8(graph.module, recipe, graph.spec.name)
        return dict.fromkeys(names, Inputs(rows=True))

    def device_script(self) -> DeviceScript:
        from mobilesam_export.backends.executorch import android

        return DeviceScript("android-executorch", android.write, android.read)


backend = ExecutorchBackend()
