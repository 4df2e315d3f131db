"""TFLite files, by litert-torch, run by LiteRT's interpreter with XNNPACK."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilesam_export import packages
from mobilesam_export.backends.conversion import Conversion, Settings
from mobilesam_export.backends.device import DeviceScript
from mobilesam_export.backends.protocol import Backend
from mobilesam_export.backends.simulation import Inputs
from mobilesam_export.backends.tflite import settings
from mobilesam_export.contract import Contract, GraphSpec
from mobilesam_export.inspection.graph import GraphDescription, Partitions
from mobilesam_export.session import Session
from mobilesam_export.target import GraphForm, Recipe

if TYPE_CHECKING:
    from mobilesam_export.graphs import Graph

TOOLS = ("torch", "litert-torch", "litert-converter", "ai-edge-quantizer", "flatbuffers")


class TfliteBackend(Backend):
    """`.tflite` files; see `Backend` for every member."""

    suffix = ".tflite"
    has_arm_build = True

    def parse_recipe(
        self, recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]
    ) -> settings.TfliteSettings:
        return settings.parse(recipe, form, convert)

    def why_cannot_convert(self) -> str:
        modules = ("torch", "litert_torch", "ai_edge_litert", "ai_edge_quantizer", "flatbuffers")
        return packages.why_missing(*modules, extra="tflite")

    def convert(self, graph: "Graph", conversion: Conversion, path: Path) -> None:
        from mobilesam_export.backends.tflite.convert import convert

        convert(graph, conversion, path)

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in TOOLS}

    def runner(self) -> str:
        return "LiteRT with XNNPACK"

    def why_unavailable(self) -> str:
        return packages.why_missing("ai_edge_litert", extra="run")

    def computes_float16(self, recipe: Recipe, form: GraphForm) -> bool:
        return form.layout == "batch-one"  # GPU delegates do, whatever the file says

    def load(self, path: Path, spec: GraphSpec, device: str = "", threads: int = 0) -> Session:
        from mobilesam_export.backends.tflite.runtime import load

        return load(path, spec, device, threads)

    def describe(self, path: Path) -> GraphDescription:
        from mobilesam_export.backends.tflite.describe import describe_tflite

        return describe_tflite(path)

    def raised_types(self, recipe: Recipe) -> tuple[str, ...]:
        return ("float32",)

    def uncompressed_types(self) -> tuple[str, str]:
        return "float16", "float32"

    def compresses(self, recipe: Recipe, graph: "Graph", name: str) -> bool:
        from mobilesam_export.backends.tflite import names, quantize

        return names.compresses(quantize.parse(recipe, graph.spec.name), graph.module, name)

    def rounded_inputs(
        self, graph: "Graph", recipe: Recipe, parsed: Settings
    ) -> Mapping[str, Inputs] | None:
        from mobilesam_export.backends.tflite.simulate import rounded_inputs

        assert isinstance(parsed, settings.TfliteSettings)
        return rounded_inputs(graph, parsed.quantization[graph.spec.name])

    def partitions(self, path: Path) -> Partitions | None:
        from mobilesam_export.backends.tflite.xnnpack import find_partitions

        return find_partitions(path)

    def samples(self, contract: Contract) -> tuple[str, ...]:
        return ("python", "kotlin")

    def device_script(self) -> DeviceScript:
        from mobilesam_export.backends.tflite import android

        return DeviceScript("android", android.write, android.read)


backend = TfliteBackend()
