"""Core ML packages (ML Programs), by coremltools, run by Core ML or by the MIL interpreter."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilesam_export import packages
from mobilesam_export.backends.conversion import Conversion, Settings
from mobilesam_export.backends.coreml import runtime, settings
from mobilesam_export.backends.device import DeviceScript
from mobilesam_export.backends.protocol import Around, Backend
from mobilesam_export.backends.simulation import Inputs, Simulation
from mobilesam_export.contract import Contract, GraphSpec
from mobilesam_export.errors import BackendError
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.session import Session
from mobilesam_export.target import GraphForm, Recipe

if TYPE_CHECKING:
    from mobilesam_export.graphs import Graph


class CoremlBackend(Backend):
    """`.mlpackage` folders; see `Backend` for every member."""

    suffix = ".mlpackage"

    def parse_recipe(
        self, recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]
    ) -> settings.CoremlSettings:
        return settings.parse(recipe, form, convert)

    def why_cannot_convert(self) -> str:
        modules = ("torch", "coremltools", "sklearn", "threadpoolctl")
        return packages.why_missing(*modules, extra="coreml")

    def convert(self, graph: "Graph", conversion: Conversion, path: Path) -> None:
        from mobilesam_export.backends.coreml.convert import convert

        convert(graph, conversion, path)

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("torch", "coremltools", "scikit-learn")}

    def runner(self) -> str:
        return "Core ML" if runtime.is_core_ml_here() else f"the {runtime.INTERPRETER}"

    def why_unavailable(self) -> str:
        # The interpreter reads packages by coremltools' protobuf classes and computes with torch.
        needed = ("coremltools",) if runtime.is_core_ml_here() else ("coremltools", "torch")
        return packages.why_missing(*needed, extra="coreml")

    def devices(self) -> dict[str, str]:
        return runtime.devices()

    def load(self, path: Path, spec: GraphSpec, device: str = "", threads: int = 0) -> Session:
        return runtime.load(path, spec, device)

    def second_opinion(self, path: Path) -> Session:
        return runtime.interpreter(path)

    def peer(self) -> str:
        return "coreai"  # Apple's as well, and its runtime runs on Linux

    def computes_float16(self, recipe: Recipe, form: GraphForm) -> bool:
        return recipe.activations != "float32"  # what is not int8 beside int8 is float16

    def raised_types(self, recipe: Recipe) -> tuple[str, ...]:
        """An exception in int8 is stored so and computed in float."""
        return ("int8", "float16") if recipe.activations == "int8" else ("float16",)

    def rounded_inputs(
        self, graph: "Graph", recipe: Recipe, parsed: Settings
    ) -> Mapping[str, Inputs] | None:
        from mobilesam_export.backends.coreml.simulate import rounded_inputs

        assert isinstance(parsed, settings.CoremlSettings)
        return rounded_inputs(graph, recipe, parsed)

    def simulation(self, graph: "Graph", recipe: Recipe, parsed: Settings) -> Simulation | None:
        from mobilesam_export.backends.coreml.simulate import simulation

        assert isinstance(parsed, settings.CoremlSettings)
        return simulation(graph, recipe, parsed)

    def stepwise(self, path: Path, around: Around) -> Session:
        return runtime.stepwise(path, around)

    def describe(self, path: Path) -> GraphDescription:
        if reason := self.why_unavailable():
            raise BackendError(f"cannot read {path}: {reason}")
        from mobilesam_export.backends.coreml.describe import describe_package

        return describe_package(path)

    def samples(self, contract: Contract) -> tuple[str, ...]:
        return ("swift",)

    def device_script(self) -> DeviceScript:
        from mobilesam_export.backends.coreml import apple

        return DeviceScript("apple", apple.write, apple.read)


backend = CoremlBackend()
