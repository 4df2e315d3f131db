"""Metadata in the TFLite standard, read back by the standard's own reader, tflite-support 0.4.4.

That needs protobuf < 4 and Python 3.11 at most, so it has packages of its own, which the first run
installs in build/.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mobilesam_export.backends.tflite import metadata, model_file
from mobilesam_export.contract import Contract
from mobilesam_export.target import load_target
from tests.conftest import WEIGHTS

ROOT = Path(__file__).parents[1]
READER = Path(__file__).with_name("read_tflite_metadata.py")
PACKAGES = ("tflite-support==0.4.4", "protobuf<4", "numpy<2", "libusb-package")
CONTRACT = Contract(256, 6, load_target("tflite").graph)
ABOUT = {
    "description": "What it is.",
    "author": "Somebody",
    "license": "Apache-2.0",
    "version": "1.2.3",
    "target": "tflite",
    "checkpoint_source": WEIGHTS,
}
GRAPHS = ("encoder", "decoder")
LINUX = ("Linux", "x86_64")


@pytest.fixture(scope="session")
def reader() -> Path:
    """Packages of tflite-support, for a Python without others."""
    if sys.version_info >= (3, 12) or (platform.system(), platform.machine()) != LINUX:
        pytest.skip("tflite-support 0.4.4 has no wheel for this platform")
    folder = ROOT / "build" / "tflite-support"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
            done = subprocess.run(
                [*pip, "--target", str(part), *PACKAGES],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            part.rename(folder)
    return folder


def ask(packages: Path, *arguments: object) -> Any:
    command = [sys.executable, "-S", str(READER), *map(str, arguments)]  # -S: no other packages
    env = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Arguments of exports that other tests share.
EXPORTED = {
    "tflite": ("tflite", "-c", WEIGHTS, "--image-size", "256", "-r", "float32"),
    "tflite-gpu": ("tflite-gpu", "-c", WEIGHTS, "--image-size", "256"),
}


@pytest.fixture(scope="module", params=GRAPHS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one RELU per input, with the interface of a graph and its metadata."""
    spec = getattr(CONTRACT, request.param)
    about = metadata.build(spec, ABOUT, CONTRACT)
    content = model_file.finished(interface_only(spec), about)
    path: Path = tmp_path_factory.mktemp("metadata") / f"{spec.name}.tflite"
    path.write_bytes(content + metadata.associated_files(spec, ABOUT))
    return path


def interface_only(spec: Any) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    types = {"float32": schema.TensorType.FLOAT32, "uint8": schema.TensorType.UINT8}
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.operators = [], []
    for item in (*spec.inputs, *spec.outputs):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = item.name.encode(), list(item.shape)
        tensor.type, tensor.buffer = types[item.dtype], 0
        graph.tensors.append(tensor)
    graph.inputs = list(range(len(spec.inputs)))
    graph.outputs = list(range(len(spec.inputs), len(graph.tensors)))
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    model.buffers = [schema.BufferT()]
    return model_file.write(model)


def test_every_field_comes_back(reader: Path, model: Path) -> None:
    spec = getattr(CONTRACT, model.stem)
    found = ask(reader, model)
    written = found["metadata"]
    assert written["name"] == f"MobileSAM {model.stem}"
    for key in ("description", "author", "license", "version"):
        assert written[key] == ABOUT[key]
    (graph,) = written["subgraph_metadata"]
    for key, tensors in (("input", spec.inputs), ("output", spec.outputs)):
        listed = graph[f"{key}_tensor_metadata"]
        assert [(t["name"], t["description"]) for t in listed] == [
            (tensor.name, tensor.meaning) for tensor in tensors
        ]
    assert found["minimum_parser_version"] == metadata.MIN_PARSER_VERSION
    assert written["min_parser_version"] == metadata.MIN_PARSER_VERSION


def test_provenance_comes_back(reader: Path, model: Path) -> None:
    found = ask(reader, model)
    (custom,) = found["metadata"]["subgraph_metadata"][0]["custom_metadata"]
    assert custom["name"] == "mobilesam-export"
    assert json.loads(found["files"][metadata.PROVENANCE]) == ABOUT
    assert json.loads(bytes(custom["data"])) == ABOUT


def test_the_images_normalisation_and_range_come_back(reader: Path, model: Path) -> None:
    if model.stem != "encoder":
        pytest.skip("only the encoder takes an image")
    (image,) = ask(reader, model)["metadata"]["subgraph_metadata"][0]["input_tensor_metadata"]
    assert image["content"]["content_properties_type"] == "ImageProperties"
    assert image["content"]["content_properties"] == {
        "color_space": "RGB",
        "default_size": {"width": 256, "height": 256},
    }
    (unit,) = image["process_units"]
    assert unit["options_type"] == "NormalizationOptions"
    assert unit["options"] == {"mean": [0.0], "std": [1.0]}
    assert image["stats"] == {"max": [255.0], "min": [0.0]}


def test_the_code_generator_accepts_the_file(reader: Path, model: Path, tmp_path: Path) -> None:
    made = ask(reader, model, tmp_path)
    assert made["error"].strip() == ""
    assert any(path.endswith("MobileSam.java") for path in made["files"])


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("target", EXPORTED)
def test_an_exported_file_says_what_its_bundle_says(
    reader: Path, export: Callable[..., Path], tmp_path: Path, target: str, graph: str
) -> None:
    bundle = export(*EXPORTED[target])
    manifest = json.loads((bundle / "manifest.json").read_text())
    found = ask(reader, bundle / f"{graph}.tflite")
    written = found["metadata"]
    assert written["license"] == manifest["checkpoint"]["license"]
    assert written["version"] == manifest["versions"]["mobilesam-export"]
    (tables,) = written["subgraph_metadata"]
    for key, tensors in (("input", "inputs"), ("output", "outputs")):
        listed = [tensor["name"] for tensor in tables[f"{key}_tensor_metadata"]]
        assert listed == [tensor["name"] for tensor in manifest["contract"][graph][tensors]]
    provenance = json.loads(found["files"][metadata.PROVENANCE])
    assert provenance["target"] == target
    assert provenance["checkpoint_source"] == manifest["checkpoint"]["source"]
    assert ask(reader, bundle / f"{graph}.tflite", tmp_path)["error"].strip() == ""


def test_the_same_input_gives_the_same_bytes() -> None:
    for spec in (CONTRACT.encoder, CONTRACT.decoder):
        made = [metadata.build(spec, ABOUT, CONTRACT) for _ in range(2)]
        files = [metadata.associated_files(spec, ABOUT) for _ in range(2)]
        assert made[0] == made[1]
        assert files[0] == files[1]
