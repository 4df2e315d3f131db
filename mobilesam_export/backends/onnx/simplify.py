"""onnxsim's simpler form of a float graph, taken only where it helps and changes nothing.

Its fusion of MatMul and Add is left out: between two Reshapes, where this model has its products, a
Gemm is two more operators for the same work.
"""

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

    It must have fewer nodes, no Gemm between Reshapes that was not there, the same answers, and
    leave ONNX Runtime no more to run than before. The last stands for "not slower": a time would
    not give the same file at each export. Times are in `benchmarks/results/simplify.json`.

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
    nodes, before = len(found.graph.node), len(model.graph.node)
    if nodes >= before:
        return f"onnxsim's form has {nodes}"
    if (gemms := _wrapped_gemms(found)) > _wrapped_gemms(model):
        return f"onnxsim's form has {gemms} Gemm between Reshapes"
    outputs = [item.name for item in model.graph.output]
    if [item.name for item in found.graph.output] != outputs:
        return "onnxsim's form has other outputs"
    for old, new in zip(
        *(ranges.observe(m, outputs, examples) for m in (model, found)), strict=True
    ):
        psnr = min(metrics.psnr_db(new[name], old[name]) for name in outputs)
        if not psnr >= EXACT_PSNR_DB:
            return f"onnxsim's form answers with a PSNR of {psnr:.1f} dB"
    run, run_before = _nodes_run(found), _nodes_run(model)
    if run > run_before:
        return f"ONNX Runtime makes {run} nodes of onnxsim's form, {run_before} of this"
    return ""


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
