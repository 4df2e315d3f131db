"""onnxsim's simpler form of a float graph, taken only where it helps and changes nothing.

Its fusion of MatMul and Add is left out: between two Reshapes, where this model has its products, a
Gemm is two more operators for the same work.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mobilesam_export import metrics
from mobilesam_export.backends.onnx import ranges
from mobilesam_export.backends.onnx.graph import GraphEditor, Node
from mobilesam_export.backends.onnx.quantize import EXACT_PSNR_DB, Sample
from mobilesam_export.errors import first_line
from mobilesam_export.quiet import quiet

STEP = "simplify"
LEFT_OUT = ("fuse_matmul_add_bias_into_gemm", "fuse_matmul_add_bias_into_gemm_batched")


def simplified(model: Node, examples: Sequence[Sample]) -> tuple[Node, str]:
    """The simpler model or, where it is no better, the model as it was.

    It must have fewer nodes, no more bytes of weights (a cast of float16 is not folded), no Gemm
    between Reshapes that was not there, the same answers, and leave ONNX Runtime no more nodes to
    run than before. The last stands for "not slower": with a time in its place, two exports might
    give two files.

    Args:
        model: in float32 or float16, as exported; not changed.
        examples: inputs to compare the answers on.

    Returns:
        The model, and for the manifest whether it was simplified and why not.
    """
    import onnxsim

    try:
        with quiet():
            found, _ = onnxsim.simplify(model, skipped_optimizers=list(LEFT_OUT))
        reason = _no_better(found, model, examples)
    except Exception as exc:  # noqa: BLE001 whatever it is, the model as it was is right
        reason = first_line(exc)
    before = len(model.graph.node)
    if reason:
        return model, f"left at {before} nodes: {reason}"
    return found, f"{before} to {len(found.graph.node)} nodes"


def _no_better(found: Node, model: Node, examples: Sequence[Sample]) -> str:
    """Why a simpler model is not taken; "" if it is."""
    if len(found.graph.node) >= len(model.graph.node):
        return f"onnxsim's form has {len(found.graph.node)}"
    for what, measure in (
        ("bytes of weights", _weight_bytes),
        ("Gemm between Reshapes", _wrapped_gemms),
        ("nodes in the form that ONNX Runtime runs", _nodes_run),
    ):
        after, before = measure(found), measure(model)
        if after > before:
            return f"onnxsim's form has {after:,} {what}, this {before:,}"
    outputs = [item.name for item in model.graph.output]
    answers = zip(*(ranges.observe(m, outputs, examples) for m in (model, found)), strict=True)
    psnr = min(metrics.psnr_db(new[name], old[name]) for old, new in answers for name in outputs)
    return "" if psnr >= EXACT_PSNR_DB else f"onnxsim's form answers with a PSNR of {psnr:.1f} dB"


def _weight_bytes(model: Node) -> int:
    """Of constants in float32 and float16."""
    import onnx

    sizes = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2}
    return sum(
        sizes.get(item.data_type, 0) * math.prod(item.dims) for item in model.graph.initializer
    )


def _wrapped_gemms(model: Node) -> int:
    """Gemm whose input and output are reshaped."""
    graph = GraphEditor(model)
    gemms = [node for node in graph.nodes if node.op_type == "Gemm"]
    producers = [graph.producer(node.input[0]) for node in gemms]
    return sum(
        producer is not None
        and producer.op_type == "Reshape"
        and graph.only_user(gemm.output[0], "Reshape") is not None
        for gemm, producer in zip(gemms, producers, strict=True)
    )


def _nodes_run(model: Node) -> int:
    """Nodes of the graph that ONNX Runtime runs, after its own optimizations."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return len(onnx.load(path).graph.node)
