"""ONNX files, by torch's exporter, run by ONNX Runtime."""

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilesam_export import packages
from mobilesam_export.backends.conversion import Conversion, Settings
from mobilesam_export.backends.onnx import settings
from mobilesam_export.backends.protocol import Backend
from mobilesam_export.backends.simulation import Inputs, Simulation
from mobilesam_export.contract import Contract, GraphSpec
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.session import Session
from mobilesam_export.target import GraphForm, Recipe

if TYPE_CHECKING:
    from mobilesam_export.graphs import Graph


# ONNX Runtime (1.32) keeps usage data below the user's cache folder and in the temporary one, and
# warns where it cannot, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


class OnnxBackend(Backend):
    """`.onnx` files; see `Backend` for every member."""

    suffix = ".onnx"
    has_arm_build = True

    def parse_recipe(
        self, recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]
    ) -> settings.OnnxSettings:
        return settings.parse(recipe, form, convert)

    def why_cannot_convert(self) -> str:
        return packages.why_missing(
            "torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", extra="onnx"
        )

    def convert(self, graph: "Graph", conversion: Conversion, path: Path) -> None:
        from mobilesam_export.backends.onnx.convert import convert

        convert(graph, conversion, path)

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxsim")}

    def runner(self) -> str:
        return "ONNX Runtime"

    def why_unavailable(self) -> str:
        return packages.why_missing("onnxruntime", extra="run")

    def devices(self) -> dict[str, str]:
        from mobilesam_export.backends.onnx import runtime

        return runtime.devices(self.why_unavailable())

    def load(self, path: Path, spec: GraphSpec, device: str = "", threads: int = 0) -> Session:
        from mobilesam_export.backends.onnx import runtime

        return runtime.load(path, spec, device, threads)

    def raised_types(self, recipe: Recipe) -> tuple[str, ...]:
        """An exception in int8 is stored so and computed in float."""
        integer = recipe.activations in ("int8", "dynamic-int8")
        return ("int8", "float16") if integer else ("float16",)

    def uncompressed_types(self) -> tuple[str, str]:
        return "float32", "float32"  # what compressed recipes compute the decoder in

    def rounded_inputs(
        self, graph: "Graph", recipe: Recipe, parsed: Settings
    ) -> Mapping[str, Inputs] | None:
        from mobilesam_export.backends.onnx.simulate import rounded_inputs

        assert isinstance(parsed, settings.OnnxSettings)
        quantization = parsed.quantization
        return None if quantization is None else rounded_inputs(graph, recipe, quantization)

    def simulation(self, graph: "Graph", recipe: Recipe, parsed: Settings) -> Simulation | None:
        from mobilesam_export.backends.onnx.simulate import simulation

        assert isinstance(parsed, settings.OnnxSettings)
        quantization = parsed.quantization
        return None if quantization is None else simulation(graph, recipe, quantization)

    def float32_islands(self, recipe: Recipe) -> tuple[str, ...]:
        return recipe.keep_float32

    def describe(self, path: Path) -> GraphDescription:
        from mobilesam_export.backends.onnx.describe import describe_onnx

        return describe_onnx(path)

    def samples(self, contract: Contract) -> tuple[str, ...]:
        return ("python",) if contract.dynamic else ("python", "web")


backend = OnnxBackend()
