"""Each rule on TFLite's GPU delegates: it fires on a made op, and not on the op beside it."""

import pytest

from mobilesam_export.backends.tflite.gpu_delegate import RULES, SUPPORTED, place
from mobilesam_export.inspection.graph import Attribute, Node, Tensor
from mobilesam_export.inspection.placement import SEVERITY, Verdict
from mobilesam_export.inspection.rules import Rule

Shape = tuple[int | None, ...]


def op(
    kind: str,
    *shapes: Shape,
    dtype: str = "float32",
    constant: int | None = None,
    **attributes: Attribute,
) -> Node:
    """An op that takes all `shapes` but the last and makes the last; one input may be constant."""
    names = ("x", "y", "z")
    inputs = {
        name: (Tensor(name, dtype, shape, constant=place == constant),)
        for place, (name, shape) in enumerate(zip(names, shapes[:-1], strict=False))
    }
    return Node(kind, inputs, (Tensor("out", dtype, shapes[-1]),), attributes)


MAP = (1, 8, 6, 4)
WINDOWS = (9, 2, 6, 4)
LEFT, RIGHT, PRODUCT = (1, 2, 6, 4), (1, 2, 4, 5), (1, 2, 6, 5)
# Rule -> an op that it speaks of, and one as near as can be of which it does not.
CASES: dict[str, tuple[Node, Node]] = {
    "known kind": (op("ADD", MAP, MAP, MAP), op("GATHER_ND", MAP, MAP)),
    "unknown kind": (op("BROADCAST_TO", (1, 1, 6, 4), MAP), op("RELU", MAP, MAP)),
    "rank above 4": (op("RELU", (1, 1, *MAP), (1, 1, *MAP)), op("RELU", MAP, MAP)),
    "dynamic shape": (op("RELU", (1, None, 6, 4), MAP), op("RELU", MAP, MAP)),
    "not float": (op("RELU", MAP, MAP, dtype="int8"), op("RELU", MAP, MAP, dtype="float16")),
    "slice of two axes": (op("SLICE", (6, 4), (2, 4)), op("SLICE", (1, 6, 4), (1, 2, 4))),
    "constant matrix": (
        op("BATCH_MATMUL", LEFT, RIGHT, PRODUCT, constant=1),
        op("BATCH_MATMUL", LEFT, (4, 5), PRODUCT, constant=1),
    ),
    "computes with a batch": (op("RELU", WINDOWS, WINDOWS), op("RESHAPE", MAP, WINDOWS)),
    "product of low rank": (
        op("BATCH_MATMUL", LEFT[1:], RIGHT[1:], PRODUCT[1:]),
        op("BATCH_MATMUL", LEFT, RIGHT, PRODUCT),
    ),
    "adjoint product": (
        op("BATCH_MATMUL", LEFT, RIGHT, PRODUCT, adjY=True),
        op("BATCH_MATMUL", LEFT, RIGHT, PRODUCT, adjX=False, adjY=False),
    ),
    "mixed ranks": (op("ADD", MAP[1:], MAP, MAP), op("ADD", MAP, MAP, MAP)),
    "pad of three axes": (op("PAD", (3, 6, 4), (3, 8, 4)), op("PAD", MAP, (1, 9, 7, 4))),
    "transposed convolution": (op("TRANSPOSE_CONV", MAP, MAP), op("CONV_2D", MAP, MAP)),
    "moves the first axis": (op("TRANSPOSE", WINDOWS, WINDOWS), op("TRANSPOSE", MAP, MAP)),
    "broadcast sum": (op("ADD", MAP, (1, 1, 6, 4), MAP), op("ADD", MAP, MAP, MAP)),
    "sum in float16": (op("MEAN", MAP, (1, 8, 6, 1)), op("RSQRT", MAP, MAP)),
}


def names(node: Node) -> set[str]:
    return {statement.name for statement in place(node).statements}


def test_every_rule_has_a_case() -> None:
    assert [rule.name for rule in RULES] == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_fires_on_its_op_and_not_on_the_next(name: str) -> None:
    fires, silent = CASES[name]
    assert name in names(fires)
    assert name not in names(silent)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_gives_its_reason_and_source_and_decides_no_less(rule: Rule) -> None:
    placed = place(CASES[rule.name][0])
    assert rule.statement() in placed.statements
    assert rule.reason
    assert rule.source
    assert SEVERITY.index(placed.verdict) >= SEVERITY.index(rule.verdict)


@pytest.mark.parametrize("kind", ["CONV_2D", "FULLY_CONNECTED", "SOFTMAX", "GELU", "RESHAPE"])
def test_an_op_of_four_axes_and_a_batch_of_one_is_resident(kind: str) -> None:
    assert place(op(kind, MAP, MAP)).verdict == Verdict.RESIDENT


@pytest.mark.parametrize("kind", ["GATHER_ND", "RELU_0_TO_1", "BROADCAST_TO", "CUSTOM.mine"])
def test_a_kind_that_the_delegate_does_not_name_is_not_resident(kind: str) -> None:
    assert kind not in SUPPORTED
    assert place(op(kind, MAP, MAP)).verdict == Verdict.NOT_RESIDENT


def test_constants_have_no_batch() -> None:
    """A weight of (out, in) or a vector of channels is no map."""
    assert place(op("FULLY_CONNECTED", MAP, (16, 4), MAP, constant=1)).verdict == Verdict.RESIDENT
