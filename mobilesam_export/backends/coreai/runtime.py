"""Assets run by Core AI: on Linux by the CPU runtime inside coreai-core, on a Mac by the system's.

It chooses its threads by itself.
"""

import asyncio
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.backends.coreai.asset import FUNCTION, open_asset
from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import BackendError, first_line
from mobilesam_export.quiet import quiet_descriptors
from mobilesam_export.session import Session

NOTE = (
    "Core AI's CPU runtime ran these files; no Neural Engine and no GPU has, and its times on a PC "
    "say nothing of a device"
)


def load(path: Path, spec: GraphSpec) -> Session:
    """Open an asset; see `Backend.load`."""
    asset = open_asset(path)
    try:
        with quiet_descriptors():
            function = asyncio.run(_function(asset))
    except Exception as exc:  # its errors share no base class
        raise BackendError(f"Core AI cannot load {path}: {first_line(exc)}") from exc
    found = {*function.desc.input_names, *function.desc.output_names}
    expected = {item.name for item in (*spec.inputs, *spec.outputs)}
    if found != expected:
        raise BackendError(f"{path} is not the {spec.name}: its tensors are {sorted(found)}")

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        try:
            return asyncio.run(_answers(function, inputs))
        except Exception as exc:  # as above
            raise BackendError(f"Core AI failed on {path.name}: {first_line(exc)}") from exc

    return Session(run, _label(), note=NOTE)


def _label() -> str:
    where = f"CPU ({platform.machine()})" if platform.system() != "Darwin" else "macOS"
    return f"Core AI {version('coreai-core')}, {where}"


async def _function(asset: Any) -> Any:
    async with asset.executable() as model:
        return model.load_function(FUNCTION)


async def _answers(function: Any, inputs: dict[str, Array]) -> dict[str, Array]:
    """Arrays by name -> arrays by name: the runtime has an order of its own."""
    from coreai.runtime import NDArray

    named = {name: NDArray(np.ascontiguousarray(value)) for name, value in inputs.items()}
    answers = await function(named)
    return {name: np.array(answers[name].numpy()) for name in function.desc.output_names}
