"""Files that tools leave behind: none of them reaches a user's folders or a bundle."""

import json
import os
import subprocess
import sys
from pathlib import Path

from coremltools.proto import Model_pb2

from mobilesam_export.backends import mlpackage

SESSION = """
import mobilesam_export.backends.onnx
import onnxruntime
from onnx import parser
text = '<ir_version: 8, opset_import: ["": 18]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
onnxruntime.InferenceSession(parser.parse_model(text).SerializeToString())
"""


def test_onnx_runtime_writes_no_usage_data(tmp_path: Path) -> None:
    places = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "cache"}
    for name in places.values():
        (tmp_path / name).mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ORT_")}
    subprocess.run(
        [sys.executable, "-B", "-c", SESSION],
        cwd=tmp_path,
        env={**kept, **{key: str(tmp_path / name) for key, name in places.items()}},
        check=True,
        capture_output=True,
    )
    assert [path.name for path in tmp_path.rglob("*") if path.name not in places.values()] == []


def test_a_core_ml_package_is_what_its_manifest_lists_and_readable(tmp_path: Path) -> None:
    made = tmp_path / "encoder.mlpackage"
    program = made / "Data" / "com.apple.CoreML" / "model.mlmodel"
    program.parent.mkdir(parents=True)
    program.write_bytes(Model_pb2.Model(specificationVersion=7).SerializeToString())
    program.chmod(0o600)
    entry = {"path": "com.apple.CoreML/model.mlmodel", "name": "model.mlmodel"}
    manifest = {"itemInfoEntries": {"random": entry}, "rootModelIdentifier": "random"}
    (made / "Manifest.json").write_text(json.dumps(manifest))
    (made / mlpackage.STRAY).write_text("{}")
    mlpackage.make_reproducible(made)
    files = sorted(path for path in made.rglob("*") if path.is_file())
    assert files == [program, made / "Manifest.json"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
