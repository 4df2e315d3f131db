"""Each rule on the Neural Engine: it fires on a made op, and not on the op beside it."""

import pytest

from mobilesam_export.backends.coreml.neural_engine import KNOWN, RULES, place
from mobilesam_export.inspection.graph import Attribute, Node, Tensor
from mobilesam_export.inspection.placement import Verdict


def op(
    kind: str,
    *shapes: tuple[int | None, ...],
    dtype: str = "float16",
    result: str = "",
    **attributes: Attribute,
) -> Node:
    """An op that takes activations of all `shapes` but the last and makes one of the last."""
    tensors = [Tensor(str(i), dtype, shape) for i, shape in enumerate(shapes)]
    made = Tensor("out", result or dtype, shapes[-1])
    return Node(kind, {"x": tuple(tensors[:-1])}, (made,), attributes)


MAP = (1, 64, 64, 64)
HUGE = (1, 64, 256, 256)
SCORES = ((10, 4, 49, 32), (10, 4, 32, 49), (10, 4, 49, 49))
# Rule -> an op that it speaks of, and one as near as can be of which it does not.
CASES: dict[str, tuple[Node, Node]] = {
    "known kind": (op("conv", MAP, MAP), op("cumsum", MAP, MAP)),
    "unknown kind": (op("cumsum", MAP, MAP), op("conv", MAP, MAP)),
    "float32": (op("add", MAP, MAP, dtype="float32"), op("add", MAP, MAP)),
    "int8 activations": (op("quantize", MAP, MAP), op("cast", MAP, MAP)),
    "integers": (op("add", MAP, MAP, dtype="int32"), op("add", MAP, MAP)),
    "rank above 5": (op("add", (1,) * 6, (1,) * 6), op("add", (1,) * 5, (1,) * 5)),
    "rank 5": (op("add", (1,) * 5, (1,) * 5), op("add", (1,) * 4, (1,) * 4)),
    "long axis": (op("add", (16385,), (1,)), op("add", (16384,), (1,))),
    "dynamic shape": (op("add", (1, None), (1, 2)), op("add", (1, 2), (1, 2))),
    "depends on data": (op("non_zero", (4,), (4, 1)), op("reduce_sum", (4,), (4, 1))),
    "gather or scatter": (op("gather", MAP, MAP), op("slice_by_index", MAP, MAP)),
    "recurrent": (op("lstm", MAP, MAP), op("linear", MAP, MAP)),
    "dilated convolution": (
        op("conv", MAP, MAP, dilations=(2, 1)),
        op("conv", MAP, MAP, dilations=(1, 1)),
    ),
    "attention batch": (
        op("matmul", *SCORES),
        op("matmul", *((9, *shape[1:]) for shape in SCORES)),
    ),
    "einsum of windows": (
        op("einsum", (1, 32, 4, 49), (1, 49, 4, 32), (1, 49, 4, 49)),
        op("einsum", (1, 32, 1, 49), (1, 49, 1, 32), (1, 49, 1, 49)),
    ),
    "fused attention": (op("scaled_dot_product_attention", *SCORES), op("softmax", MAP, MAP)),
    "layer_norm axis": (
        op("layer_norm", MAP, MAP, axes=(-1,)),
        op("layer_norm", MAP, MAP, axes=(1,)),
    ),
    "sine or cosine": (op("sin", MAP, MAP), op("sigmoid", MAP, MAP)),
    "small": (op("add", MAP, MAP), op("add", HUGE, MAP)),
    "narrow last axis": (op("add", MAP, (1, 64, 16)), op("add", MAP, (1, 64, 17))),
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
def test_a_rule_gives_its_reason_and_source_and_decides_no_less(rule: object) -> None:
    (found,) = [item for item in RULES if item is rule]
    placed = place(CASES[found.name][0])
    (said,) = [statement for statement in placed.statements if statement.name == found.name]
    assert said.reason
    assert said.source
    worst = [Verdict.RESIDENT, Verdict.AT_RISK, Verdict.NOT_RESIDENT]
    assert worst.index(placed.verdict) >= worst.index(found.verdict)


@pytest.mark.parametrize("kind", ["conv", "matmul", "softmax", "transpose"])
def test_what_sources_show_on_the_neural_engine_is_resident(kind: str) -> None:
    assert place(op(kind, MAP, MAP)).verdict == Verdict.RESIDENT


@pytest.mark.parametrize("kind", ["brand_new", "Conv", "custom", "topk", "clip"])
def test_a_kind_that_no_rule_knows_is_at_risk_and_says_so(kind: str) -> None:
    placed = place(op(kind, HUGE, HUGE))
    assert placed.verdict == Verdict.AT_RISK
    assert [statement.reason for statement in placed.statements] == ["not known to the rules"]


def test_the_worst_statement_decides() -> None:
    placed = place(op("sin", MAP, MAP, dtype="float32"))
    assert {"float32", "sine or cosine"} <= {s.name for s in placed.statements}
    assert placed.verdict == Verdict.NOT_RESIDENT


def test_a_cast_from_float32_is_not_resident_and_one_from_float16_is() -> None:
    assert place(op("cast", MAP, MAP, dtype="float32", result="float16")).verdict == "not resident"
    assert place(op("cast", MAP, MAP)).verdict == "resident"


def test_weights_count_for_nothing() -> None:
    """A table of 20,000 rows or int32 indices are no activations."""
    node = op("linear", MAP, MAP)
    table = Tensor("table", "float32", (20000, 1, 1, 1, 1, 1), constant=True)
    heavy = Node("linear", {**node.inputs, "weight": (table,)}, node.outputs)
    assert names(heavy) == names(node)


def test_a_product_with_a_weight_is_no_attention() -> None:
    first, second, third = SCORES
    table = Tensor("table", "float16", second, constant=True)
    inputs = {"x": (Tensor("x", "float16", first),), "y": (table,)}
    node = Node("matmul", inputs, (Tensor("out", "float16", third),))
    assert "attention batch" not in names(node)


def test_layer_norm_over_axes_that_are_not_known_is_at_risk() -> None:
    assert "layer_norm axis" in names(op("layer_norm", MAP, MAP))
    assert "layer_norm axis" in names(op("layer_norm", MAP, MAP, axes=(1, 2)))
    assert "layer_norm axis" not in names(op("layer_norm", MAP, MAP, axes=(-3,)))


def test_every_op_gets_a_statement() -> None:
    for kind in (*KNOWN, "gather", "lstm", "non_zero", "sin", "never heard of"):
        assert place(op(kind, HUGE, HUGE)).statements, kind
