"""What `inspect` says of real packages and files."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mobilesam_export.backends.coreml import backend as coreml
from mobilesam_export.backends.onnx import backend as onnx_backend
from mobilesam_export.errors import BackendError
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.inspection.report import GraphReport, inspect_graph
from mobilesam_export.quiet import quiet
from tests.cli_runner import warm
from tests.mil_programs import save

with quiet():
    from coremltools.converters.mil import Builder as mb


@pytest.fixture(scope="module")
def encoder(coreml_bundle: Path) -> GraphReport:
    return inspect_graph(coreml.describe(coreml_bundle / "encoder.mlpackage"))


@pytest.fixture(scope="module")
def decoder(coreml_bundle: Path) -> GraphReport:
    return inspect_graph(coreml.describe(coreml_bundle / "decoder.mlpackage"))


def small_package(path: Path) -> Path:
    """A convolution of (1, 8, 6, 6) by 3 x 3 to 16 channels, and a residual around two relus."""

    def build(x: Any) -> Any:
        filters = np.ones((16, 8, 3, 3), np.float32)
        first = mb.conv(x=x, weight=filters, pad_type="same", name="first")
        second = mb.relu(x=mb.relu(x=first, name="a"), name="b")
        return mb.add(x=first, y=second, name="sum")

    return save(path, build, {"x": np.zeros((1, 8, 6, 6), np.float32)})


def test_a_small_package_worked_out_by_hand(tmp_path: Path) -> None:
    report = inspect_graph(coreml.describe(small_package(tmp_path / "small.mlpackage")))
    assert report.form == "ML Program for iOS 17"
    assert report.ops == {"relu": 2, "conv": 1, "add": 1}
    assert report.macs == {"conv": 16 * 6 * 6 * 8 * 9}
    # first, a and b, each of 16*6*6 float32, and the input of 8*6*6
    assert report.peak_bytes == 4 * 36 * (3 * 16 + 8)
    assert report.peak_op == "b"
    assert report.weights_bytes["float32"] == 4 * 16 * 8 * 9
    assert report.residency is not None
    assert report.residency.counts == {"resident": 0, "at risk": 0, "not resident": 4}
    assert report.file_bytes == sum(
        p.stat().st_size for p in (tmp_path / "small.mlpackage").rglob("*") if p.is_file()
    )


def test_parameters_of_a_package_reach_the_rules(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        normal = mb.layer_norm(x=x, axes=[1], epsilon=np.float16(1e-5), name="channels")
        return mb.layer_norm(x=normal, axes=[-1], epsilon=np.float16(1e-5), name="last")

    path = save(tmp_path / "n.mlpackage", build, {"x": np.zeros((1, 8, 2, 2), np.float16)})
    described = coreml.describe(path)
    assert described.residency is not None
    verdicts = [str(placement.verdict) for placement in described.residency]
    assert verdicts == ["resident", "at risk"]


def test_compressed_weights_count_as_stored_and_unpacking_is_no_op(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        packed = np.arange(5 * 64, dtype=np.int8).reshape(5, 64)
        weight = mb.constexpr_affine_dequantize(
            quantized_data=packed, zero_point=np.int8(0), scale=np.float32(0.1), axis=0
        )
        return mb.linear(x=x, weight=weight)

    path = save(tmp_path / "w8.mlpackage", build, {"x": np.zeros((2, 64), np.float32)}, "iOS16")
    report = inspect_graph(coreml.describe(path))
    assert report.ops == {"linear": 1}
    assert report.macs == {"linear": 2 * 5 * 64}
    assert report.weights_bytes["int8"] >= 5 * 64
    assert report.weights_bytes["float32"] < 100  # scale and bias, not the unpacked weights
    assert report.peak_bytes == 4 * 2 * (64 + 5)


def test_our_encoder_has_small_ranks_and_axes(encoder: GraphReport) -> None:
    assert encoder.largest_rank is not None
    assert encoder.largest_axis is not None
    assert len(encoder.largest_rank.shape or ()) == 4
    assert max(size or 0 for size in encoder.largest_axis.shape or ()) <= 16384
    assert encoder.dynamic == ()


def test_nothing_in_our_encoder_leaves_but_the_edges_in_float32(encoder: GraphReport) -> None:
    """The image's bias and cast at the start, and the cast of the embedding at the end."""
    assert encoder.residency is not None
    ops = encoder.residency.ops
    leaving = [index for index, op in enumerate(ops) if op.verdict == "not resident"]
    assert set(leaving) <= {0, 1, len(ops) - 1}
    assert {ops[index].kind for index in leaving} <= {"add", "cast"}
    risks = {rule for op in ops if op.verdict == "at risk" for rule in op.rules}
    assert risks <= {"known kind", "small", "narrow last axis", "attention batch"}


def test_islands_of_float32_in_our_decoder_are_told(decoder: GraphReport) -> None:
    assert decoder.residency is not None
    assert decoder.residency.rules["float32"].ops["sin"] == 1
    assert decoder.residency.rules["sine or cosine"].ops == {"sin": 1, "cos": 1}
    assert "long axis" not in decoder.residency.rules


def test_macs_are_the_same_in_onnx_where_the_graphs_are(
    onnx_bundle: Path, encoder: GraphReport
) -> None:
    """Both layouts have the same convolutions and products, but for where windows are cropped."""
    report = inspect_graph(onnx_backend.describe(onnx_bundle / "encoder.onnx"))
    assert sum(report.macs.values()) == pytest.approx(sum(encoder.macs.values()), rel=0.25)
    assert report.macs_uncounted == ()
    assert report.peak_unknown == 0
    assert report.dynamic == ()
    assert report.residency is None
    assert next(iter(report.weights_bytes)) == "float32"
    assert report.largest_rank is not None
    assert len(report.largest_rank.shape or ()) == 4


def test_dynamic_axes_of_an_onnx_file_are_told(onnx_sam_bundle: Path) -> None:
    report = inspect_graph(onnx_backend.describe(onnx_sam_bundle / "decoder.onnx"))
    dynamic = {tensor.name: tensor.shape for tensor in report.dynamic}
    assert dynamic["point_coords"] == (1, None, 2)
    assert report.peak_unknown > 0
    assert report.macs_uncounted


def described_onnx(tmp_path: Path, text: str) -> GraphDescription:
    path = tmp_path / "made.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return onnx_backend.describe(path)


def test_an_onnx_file_worked_out_by_hand(tmp_path: Path) -> None:
    """Constants are no ops, whichever way they are written; functions are looked into."""
    report = inspect_graph(
        described_onnx(
            tmp_path,
            """
            <ir_version: 8, opset_import: ["" : 18, "mine" : 1]>
            made (float[2, 7] x) => (float[5, 2] y)
            <float[7, 5] w = {1}> {
                shape = Constant <value = int64[2] {5, 2}> ()
                product = Gemm(x, w)
                flat = mine.twice(product)
                reshaped = Reshape(flat, shape)
                two = Constant <value_ints = [1, 0]> ()
                y = Transpose <perm = [0, 1]> (reshaped)
            }
            <domain: "mine", opset_import: ["" : 18]>
            twice (a) => (b) { c = Relu(a)  b = Relu(c) }
            """.replace("{1}", "{" + ", ".join(["1"] * 35) + "}"),
        )
    )
    assert report.form == "ONNX opset 18"
    assert report.ops == {"Relu": 2, "Gemm": 1, "Reshape": 1, "Transpose": 1}
    assert report.data_movement == {"Reshape": 1, "Transpose": 1}
    assert report.macs == {"Gemm": 70}
    assert report.weights_bytes == {"float32": 140, "int64": 16 + 16}
    assert report.peak_bytes == 4 * (14 + 10 + 10)


def test_an_op_of_another_domain_is_not_taken_for_onnx_s_own(tmp_path: Path) -> None:
    report = inspect_graph(
        described_onnx(
            tmp_path,
            """
            <ir_version: 8, opset_import: ["" : 18, "mine" : 1]>
            made (float[1, 1, 4, 4] x, float[1, 1, 3, 3] w) => (float[1, 1, 2, 2] y)
            { y = mine.Conv(x, w) }
            """,
        )
    )
    assert report.ops == {"mine.Conv": 1}
    assert report.macs == {}


def test_control_flow_is_refused(tmp_path: Path) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 18]>
        made (bool c, float[2] x) => (float[2] y) {
            y = If (c) <
                then_branch = g1 () => (float[2] a) { a = Relu(x) },
                else_branch = g2 () => (float[2] b) { b = Neg(x) }>
        }
    """
    with pytest.raises(BackendError, match=r"op If \(y\), which holds a graph"):
        described_onnx(tmp_path, text)


def test_a_bundle_is_shown_graph_by_graph(coreml_bundle: Path, tmp_path: Path) -> None:
    done = warm(tmp_path, ["inspect", coreml_bundle])
    assert (done.code, done.stderr) == (0, "")
    for phrase in (
        "encoder.mlpackage: ML Program for iOS 16, ",
        "decoder.mlpackage: ML Program for iOS 16, ",
        "by rules from documents and issues, not a measurement",
        "views, computing in place and fusion",
        "[coremltools guide, Typed Execution]",
    ):
        assert phrase in " ".join(done.stdout.split()), phrase
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_json_is_one_object_with_every_op(coreml_bundle: Path, tmp_path: Path) -> None:
    done = warm(tmp_path, ["inspect", coreml_bundle, "--json"])
    found = json.loads(done.stdout)
    assert found["path"] == str(coreml_bundle)
    names = [graph["file"] for graph in found["graphs"]]
    assert names == ["encoder.mlpackage", "decoder.mlpackage"]
    for graph in found["graphs"]:
        residency = graph["residency"]
        assert len(residency["ops"]) == sum(graph["ops"].values())
        assert sum(residency["counts"].values()) == len(residency["ops"])
        assert all(set(op["rules"]) <= set(residency["rules"]) for op in residency["ops"])
        assert residency["how"] == "by rules from documents and issues, not a measurement"


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_a_lone_onnx_file(name: str, onnx_bundle: Path, tmp_path: Path) -> None:
    shutil.copy(onnx_bundle / name, tmp_path)
    done = warm(tmp_path, ["inspect", name])
    assert done.code == 0
    assert done.stdout.startswith(f"{name}: ONNX opset ")
    assert "Neural Engine" not in done.stdout
