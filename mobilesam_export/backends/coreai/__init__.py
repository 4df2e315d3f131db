"""Core AI assets, by coreai-torch, run by Apple's own runtime: on Linux on its CPU, too."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilesam_export import packages
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreai import platforms, settings
from mobilesam_export.backends.coreai.segmenter import METADATA, metadata
from mobilesam_export.backends.protocol import Backend
from mobilesam_export.contract import Contract, GraphSpec
from mobilesam_export.errors import BackendError
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.session import Session
from mobilesam_export.target import GraphForm, Recipe

if TYPE_CHECKING:
    from mobilesam_export.graphs import Graph

EXTRA = "coreai"


class CoreaiBackend(Backend):
    """`.aimodel` folders; see `Backend` for every member."""

    suffix = ".aimodel"
    optional = True  # not every Linux can install its packages

    def parse_recipe(
        self, recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]
    ) -> settings.CoreaiSettings:
        return settings.parse(recipe, form, convert)

    def why_cannot_convert(self) -> str:
        missing = packages.why_missing("torch", "coreai", "coreai_torch", extra=EXTRA)
        return platforms.explained(missing)

    def convert(self, graph: "Graph", conversion: Conversion, path: Path) -> None:
        from mobilesam_export.backends.coreai.convert import convert

        convert(graph, conversion, path)

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("torch", "coreai-core", "coreai-torch")}

    def runner(self) -> str:
        return "Core AI"

    def why_unavailable(self) -> str:
        return platforms.explained(packages.why_missing("coreai", extra=EXTRA))

    def load(self, path: Path, spec: GraphSpec, device: str = "", threads: int = 0) -> Session:
        if reason := self.devices().get(device or "cpu", "no such device"):
            raise BackendError(f"cannot run {path.name} on {device or 'cpu'}: {reason}")
        from mobilesam_export.backends.coreai import runtime

        return runtime.load(path, spec)

    def float32_islands(self, recipe: Recipe) -> tuple[str, ...]:
        return recipe.keep_float32

    def samples(self, contract: Contract) -> tuple[str, ...]:
        return ("swift-coreai",) if contract.form.image_input == "uint8" else ()

    def companions(self, contract: Contract, name: str) -> dict[str, str]:
        return {METADATA: metadata(name, self.suffix)} if contract.fused else {}

    def describe(self, path: Path) -> GraphDescription:
        if reason := self.why_unavailable():
            raise BackendError(f"cannot read {path}: {reason}")
        from mobilesam_export.backends.coreai.describe import describe_asset

        return describe_asset(path)


backend = CoreaiBackend()
