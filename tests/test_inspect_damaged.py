"""What `inspect` says of files that it cannot read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from mobilesam_export.backends.coreml import backend as coreml
from mobilesam_export.backends.onnx import backend as onnx_backend
from mobilesam_export.errors import MobileSamExportError
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.inspection.report import inspect_graph
from mobilesam_export.inspection.text import render
from mobilesam_export.quiet import quiet
from tests.cli_runner import ERROR, USAGE, refused
from tests.test_inspect_files import described_onnx, small_package

WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
MODEL = Path("Data", "com.apple.CoreML", "model.mlmodel")


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
