"""What `inspect` says of real packages and files, and of those that it cannot read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mobilesam_export.backends.coreml import backend as coreml
from mobilesam_export.backends.onnx import backend as onnx_backend
from mobilesam_export.errors import BackendError, MobileSamExportError
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.inspection.report import GraphReport, inspect_graph
from mobilesam_export.inspection.text import render
from mobilesam_export.quiet import quiet
from tests.cli_runner import ERROR, USAGE, refused, warm
from tests.mil_programs import save

with quiet():
    from coremltools.converters.mil import Builder as mb

WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
MODEL = Path("Data", "com.apple.CoreML", "model.mlmodel")


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


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def shorten(name: Path) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "x.mlpackage" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


def neural_network(folder: Path) -> None:
    with quiet():
        from coremltools.proto import Model_pb2
    model = Model_pb2.Model(specificationVersion=4)
    model.neuralNetwork.layers.add()
    (folder / "x.mlpackage" / MODEL).write_bytes(model.SerializeToString())


def external_weights(folder: Path) -> None:
    values = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[2, 64] x) => (float[2, 64] y) '
        "{ y = MatMul(x, w) }"
    )
    model.graph.initializer.append(values)
    onnx.save(
        model,
        folder / "x.onnx",
        save_as_external_data=True,
        location="x.data",
        size_threshold=0,
    )
    (folder / "x.data").unlink()


BAD: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "nothing there": (lambda _: None, "gone", ["gone does not exist"]),
    "no such package": (lambda _: None, "gone.mlpackage", ["gone.mlpackage does not exist"]),
    "no such file": (lambda _: None, "gone.onnx", ["gone.onnx does not exist"]),
    "other folder": (lambda folder: (folder / "f").mkdir(), "f", ["f is not a bundle"]),
    "foreign file": (write("x.txt", b"mine"), "x.txt", ["neither a bundle nor", ".mlpackage"]),
    "text as ONNX": (write("x.onnx", b"a text"), "x.onnx", ["x.onnx is damaged or no ONNX"]),
    "empty ONNX": (write("x.onnx", b""), "x.onnx", ["x.onnx is damaged or no ONNX"]),
    "folder as ONNX": (lambda folder: (folder / "x.onnx").mkdir(), "x.onnx", ["cannot be read"]),
    "ONNX without its weights": (external_weights, "x.onnx", ["x.onnx", "x.data"]),
    "file as a package": (write("p.mlpackage", b""), "p.mlpackage", ["is no Core ML package"]),
    "empty package": (
        lambda folder: (folder / "p.mlpackage").mkdir(),
        "p.mlpackage",
        ["is no Core ML package"],
    ),
    "package without weights": (
        lambda folder: (folder / "x.mlpackage" / WEIGHTS).unlink(),
        "x.mlpackage",
        ["weight.bin cannot be read", "export the package again"],
    ),
    "short weights": (shorten(WEIGHTS), "x.mlpackage", ["weight.bin ends at byte"]),
    "short specification": (shorten(MODEL), "x.mlpackage", ["model.mlmodel is damaged"]),
    "neural network": (neural_network, "x.mlpackage", ["neuralNetwork", "expected an ML Program"]),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose weights are large enough to be in a file of their own."""
    return small_package(tmp_path_factory.mktemp("package") / "x.mlpackage")


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, package: Path, tmp_path: Path) -> None:
    damage, path, phrases = BAD[name]
    shutil.copytree(package, tmp_path / "x.mlpackage")
    damage(tmp_path)
    refused(tmp_path, ["inspect", path], ERROR, phrases)


def survive(describe: Callable[[Path], GraphDescription], path: Path, changed: Path) -> int:
    """Describe with single bytes of a file changed; how often that is refused."""
    content, generator = changed.read_bytes(), np.random.default_rng(0)
    messages = []
    for place, byte in generator.integers(0, (len(content), 256), (200, 2)):
        changed.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
        try:
            render(inspect_graph(describe(path)))
        except MobileSamExportError as exc:
            messages.append(str(exc))
    assert not any("\n" in message for message in messages)
    return len(messages)


def test_no_changed_byte_of_a_specification_is_a_bug(package: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(package, tmp_path / "x.mlpackage"))
    assert 0 < survive(coreml.describe, path, path / MODEL) < 200


def test_no_changed_byte_of_an_onnx_file_is_a_bug(tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    described_onnx(
        tmp_path,
        """
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[1, 8, 6, 6] x, float[16, 8, 3, 3] w) => (float[1, 16, 4, 4] y) {
            shape = Constant <value = int64[4] {1, 16, 4, 4}> ()
            a = Conv(x, w)
            b = Relu(a)
            c = Add(a, b)
            y = Reshape(c, shape)
        }
        """,
    )
    assert 0 < survive(onnx_backend.describe, path, path) < 200


def test_a_bundle_with_a_changed_byte(onnx_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(onnx_bundle, tmp_path / "bundle"))
    content = bytearray((bundle / "encoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "encoder.onnx").write_bytes(content)
    refused(tmp_path, ["inspect", "bundle"], ERROR, ["encoder.onnx", "SHA-256 differs"])


def test_a_path_is_needed(tmp_path: Path) -> None:
    refused(tmp_path, ["inspect"], USAGE, ["BUNDLE|FILE", "inspect --help"])
