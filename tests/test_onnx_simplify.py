"""onnxsim's form of a graph is taken only where it has fewer nodes and the same answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxsim
import pytest

from mobilesam_export.backends.onnx.simplify import STEP, simplified

EXAMPLES = [{"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)}]
WEIGHT = "float[8, 8] w = {" + ", ".join(["0"] * 64) + "}"
LARGER = f"{WEIGHT}, float[2] more = {{1, 1}}"
ROWS = f"{WEIGHT}, int64[2] s = {{1, 8}}"


def parsed(body: str, constants: str = WEIGHT) -> Any:
    """A graph from x to y with these nodes."""
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 20]> '
        f"g (float[1, 8] x) => (float[1, 8] y) <{constants}> {{ {body} }}"
    )
    (weight,) = (item for item in model.graph.initializer if item.name == "w")
    weight.CopyFrom(onnx.numpy_helper.from_array(np.eye(8, dtype=np.float32) * 2, "w"))
    return model


LONG = parsed("a = Identity(x) b = MatMul(a, w) y = Identity(b)")
LONGER = parsed("a = Identity(x) b = Identity(a) c = MatMul(b, w) y = Identity(c)")


def test_what_onnxsim_makes_shorter_is_taken() -> None:
    model, said = simplified(LONG, EXAMPLES)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    assert said == "3 to 1 nodes"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (parsed("a = Identity(x) b = Identity(a) c = Identity(b) y = MatMul(c, w)"), "has 4"),
        (parsed("a = Add(more, more) y = MatMul(x, w)", LARGER), "bytes of weights"),
        (parsed("y = Tanh(x)"), "a PSNR of"),
        (
            parsed("a = Reshape(x, s) b = Gemm(a, w) y = Reshape(b, s)", ROWS),
            "1 Gemm between Reshapes",
        ),
        (parsed("y = Missing(x)"), "Missing"),
    ],
    ids=["no shorter", "larger", "other answers", "Gemm between Reshapes", "does not run"],
)
def test_what_is_no_better_is_not_taken(
    other: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxsim, "simplify", lambda *_, **__: (other, True))
    model, said = simplified(LONGER, EXAMPLES)
    assert model is LONGER
    assert said.startswith("left at 4 nodes: ")
    assert reason in said


def test_the_manifest_says_what_came_of_it(onnx_bundle: Path) -> None:
    steps = json.loads((onnx_bundle / "manifest.json").read_text())["steps"]
    assert set(steps) == {"encoder", "decoder"}
    assert all(found[STEP].endswith(" nodes") for found in steps.values())
