"""Memory and load times in the READMEs of bundles are those that were measured."""

import json
from pathlib import Path
from typing import Any

from mobilesam_export.backends import get_backend

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def result(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return loaded


def template(backend: str) -> str:
    text = (get_backend(backend).templates() / "slots.md").read_text()
    return " ".join(text.split())


def test_memory_with_onnx_runtime_is_what_was_measured() -> None:
    rows = {row["recipe"]: row["process_bytes"] / 1e6 for row in result("footprint")["rows"]}
    assert (
        f"{rows['float32']:.0f} MB with `float32`, {rows['float16']:.0f} MB with `float16` and "
        f"{rows['w8-dynamic']:.0f} MB with `w8-dynamic`"
    ) in template("onnx")


def test_memory_with_litert_is_what_was_measured() -> None:
    found = result("tflite_cpu")
    encoder, decoder = (
        {name: files["memory"]["process"] / 1e6 for name, files in found[graph].items()}
        for graph in ("encoder", "decoder")
    )
    assert (
        f"{encoder['float32']:.0f} MB for the `float32` encoder and {decoder['float32']:.0f} MB "
        f"for the decoder, with `w8-dynamic` by {encoder['w8-dynamic']:.0f} and "
        f"{decoder['w8-dynamic']:.0f} MB"
    ) in template("tflite")


def test_load_times_are_what_was_measured() -> None:
    loads: dict[tuple[str, int], float] = {}
    for row in result("latency")["rows"]:
        for i, ms in enumerate(row["load_ms"]):
            loads[row["subject"], i] = loads.get((row["subject"], i), 0) + ms / 1e3
    onnx = max(s for (name, _), s in loads.items() if name == "onnx-float32")
    assert f"takes {onnx:.1f} s" in template("onnx")
    litert = [seconds for (name, _), seconds in loads.items() if name.startswith("tflite")]
    assert f"{min(litert):.2f} to {max(litert):.1f} s" in template("tflite")
