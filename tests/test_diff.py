"""`diff` says of each kind of change whether it breaks an app."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mobilesam_export.bundle.manifest import _as_dict
from mobilesam_export.diff.manifests import Change, compare_manifests
from mobilesam_export.diff.run import Difference
from mobilesam_export.diff.text import terminal
from tests.cli_runner import warm
from tests.test_manifest import contents

FAILED = 3
FILE = {"sha256": "0" * 64, "bytes": 1}
Manifest = dict[str, Any]
Edit = Callable[[Manifest], Any]


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """Of an `onnx` bundle, as JSON gives it back."""
    written = {
        **_as_dict(contents("onnx")),
        "files": {"encoder.onnx": FILE, "decoder.onnx": FILE, "README.md": FILE},
    }
    written["verification"]["status"] = "passed"
    written["recipe"]["runtime"] = {"name": "ONNX Runtime", "minimum": "1.18"}
    loaded: Manifest = json.loads(json.dumps(written))
    return loaded


def tensor(manifest: Manifest, graph: str, kind: str, index: int) -> Manifest:
    found: Manifest = manifest["contract"][graph][kind][index]
    return found


def put(*keys: str, value: object) -> Edit:
    """An edit that sets an entry."""

    def edit(manifest: Manifest) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        assert manifest.get(keys[-1]) != value
        manifest[keys[-1]] = value

    return edit


NEW_TENSOR = {"name": "extra", "shape": [1], "dtype": "float32", "meaning": "x"}

BREAKING: dict[str, tuple[Edit, str]] = {
    "another input size": (put("contract", "image_size", value=512), "contract"),
    "fewer prompt slots": (put("contract", "points", value=4), "contract"),
    "an input renamed": (
        lambda m: tensor(m, "encoder", "inputs", 0).update(name="pixels"),
        "contract",
    ),
    "an input more": (lambda m: m["contract"]["decoder"]["inputs"].append(NEW_TENSOR), "contract"),
    "an input of another type": (
        lambda m: tensor(m, "encoder", "inputs", 0).update(dtype="float32"),
        "contract",
    ),
    "an output of another shape": (
        lambda m: tensor(m, "decoder", "outputs", 0).update(shape=[1, 3, 64, 64]),
        "contract",
    ),
    "an output less": (lambda m: m["contract"]["decoder"]["outputs"].pop(), "contract"),
    "another padding": (
        lambda m: m["contract"]["preprocess"]["pad"].update(value=[0, 0, 0]),
        "contract",
    ),
    "another threshold": (
        lambda m: m["contract"]["postprocess"]["steps"][-1].update(value=0.5),
        "contract",
    ),
    "another mask to show": (put("contract", "which_mask", "otherwise", value=1), "contract"),
    "another label": (put("contract", "coordinates", "labels", "empty", value=-10), "contract"),
    "a newer runtime": (put("recipe", "runtime", "minimum", value="1.23"), "runtime"),
    "another runtime": (put("recipe", "runtime", "name", value="LiteRT"), "runtime"),
    "a newer operator set": (put("convert", "opset", value=23), "runtime"),
    "a file renamed": (
        lambda m: m["files"].update({"enc.onnx": m["files"].pop("encoder.onnx")}),
        "files",
    ),
    "not verified any more": (put("verification", "status", value="unverified"), "verification"),
    "untrained weights": (put("checkpoint", "trained", value=False), "weights"),
}
HARMLESS: dict[str, tuple[Edit, str]] = {
    "an output more": (
        lambda m: m["contract"]["decoder"]["outputs"].append(NEW_TENSOR),
        "contract",
    ),
    "a meaning in other words": (
        lambda m: tensor(m, "encoder", "inputs", 0).update(meaning="an RGB image"),
        "contract",
    ),
    "an older runtime": (put("recipe", "runtime", "minimum", value="1.9.2"), "runtime"),
    "another layout inside": (put("contract", "form", "layout", value="channel-first"), "graph"),
    "another recipe": (put("recipe", "name", value="float16"), "recipe"),
    "other weights": (put("checkpoint", "weights_sha256", value="1" * 64), "weights"),
    "another license": (put("license", value="MIT"), "weights"),
    "a looser limit": (put("limits", "mask", "iou", value=0.9), "limits"),
    "folded ranges": (put("range_folding", value={"a": 1, "b": 2}), "graph"),
    "a newer torch": (put("versions", "torch", value="2.14.0"), "versions"),
    "another target of the same contract": (put("target", value="mine"), "other"),
}


def changes(manifest: Manifest, edit: Edit) -> tuple[Change, ...]:
    edited = copy.deepcopy(manifest)
    edit(edited)
    return compare_manifests(manifest, edited)


def test_a_manifest_does_not_differ_from_itself(manifest: Manifest) -> None:
    assert compare_manifests(manifest, copy.deepcopy(manifest)) == ()


@pytest.mark.parametrize("kind", BREAKING)
def test_what_breaks_an_app_is_called_breaking(manifest: Manifest, kind: str) -> None:
    edit, area = BREAKING[kind]
    found = changes(manifest, edit)
    assert [change.area for change in found if change.breaking][:1] == [area]
    assert found[0].reason


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_breaks_no_app_is_reported_and_not_called_breaking(
    manifest: Manifest, kind: str
) -> None:
    edit, area = HARMLESS[kind]
    assert [(change.area, change.breaking) for change in changes(manifest, edit)] == [(area, False)]


def test_runtimes_that_are_stated_for_the_first_time_break_nothing(manifest: Manifest) -> None:
    silent = {**manifest, "recipe": {**manifest["recipe"], "runtime": None}}
    assert not [change for change in compare_manifests(silent, manifest) if change.breaking]
    assert [change for change in compare_manifests(manifest, silent) if change.breaking]


@pytest.mark.parametrize("name", ["preprocess", "postprocess", "which_mask", "coordinates"])
def test_steps_that_are_stated_for_the_first_time_break_nothing(
    manifest: Manifest, name: str
) -> None:
    older = copy.deepcopy(manifest)
    del older["contract"][name]
    (stated,) = compare_manifests(older, manifest)
    (dropped,) = compare_manifests(manifest, older)
    assert (stated.breaking, dropped.breaking) == (False, True)


def test_a_least_runtime_of_a_real_bundle_is_where_the_rules_look(onnx_bundle: Path) -> None:
    written = json.loads((onnx_bundle / "manifest.json").read_text())
    raised = put("recipe", "runtime", "minimum", value="99.0")
    (change,) = changes(written, raised)
    assert (change.area, change.breaking) == ("runtime", True)


def test_another_backend_is_not_compared_by_its_own_words(
    onnx_bundle: Path, tflite_bundle: Path, tmp_path: Path
) -> None:
    """Operator sets, versions of tools and ops of one backend mean nothing to another."""
    done = warm(tmp_path, ["diff", onnx_bundle, tflite_bundle, "--json"])
    assert done.code == FAILED
    found = json.loads(done.stdout)["changes"]
    assert {"ops", "versions"}.isdisjoint(change["area"] for change in found)
    breaking = [change["what"] for change in found if change["breaking"]]
    assert {"backend", "recipe.runtime.name"} <= {*breaking}
    assert not [what for what in breaking if what.startswith("convert")]


def test_of_long_values_the_part_that_differs_is_shown() -> None:
    what = "contract.encoder.inputs.image.meaning"
    start = "RGB 0..255, longest side resized to the side of the square, then placed "
    change = Change("contract", what, f"{start}top left", f"{start}in the middle", False, "a text")
    text = terminal(Difference(Path("old"), Path("new"), (change,)))
    assert "... placed top left" in text
    assert "... placed in the middle" in text


def test_a_bundle_does_not_differ_from_itself(onnx_bundle: Path, tmp_path: Path) -> None:
    done = warm(tmp_path, ["diff", onnx_bundle, onnx_bundle])
    assert (done.code, done.stdout) == (0, "no difference\n")


def test_two_bundles_are_compared_in_files_ops_figures_and_masks(
    onnx_bundle: Path, onnx_float16_bundle: Path, tmp_path: Path
) -> None:
    arguments = ["diff", onnx_bundle, onnx_float16_bundle, "--json", "--markdown", "changes.md"]
    done = warm(tmp_path, arguments)
    found = json.loads(done.stdout)
    breaking = [change["area"] for change in found["changes"] if change["breaking"]]
    # Of the same interface, but the second's opset is one that old runtimes refuse.
    assert (done.code, breaking) == (FAILED, ["runtime", "runtime"])
    areas = {change["area"] for change in found["changes"]}
    assert {"files", "size", "ops", "recipe", "weights", "figures", "masks"} <= areas
    text = (tmp_path / "changes.md").read_text()
    assert text.count("\n| ") == len(found["changes"]) + 2


def test_a_change_that_breaks_apps_is_exit_code_3(onnx_bundle: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(onnx_bundle, tmp_path / "changed"))
    path = changed / "manifest.json"
    edited = json.loads(path.read_text())
    edited["contract"]["which_mask"]["otherwise"] = {"mask": 1}
    path.write_text(json.dumps(edited))
    done = warm(tmp_path, ["diff", onnx_bundle, changed])
    assert done.code == FAILED
    assert "1 change, 1 of them breaks an app" in done.stdout
    assert "contract.which_mask.otherwise.mask" in done.stdout


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda path: path.unlink(), "is not a bundle: it has no manifest.json"),
        (lambda path: path.write_text("{"), "is damaged"),
        (lambda path: path.write_text('{"tool": "mobilesam-export"}'), "manifest"),
    ],
    ids=["no manifest", "half a manifest", "an empty manifest"],
)
def test_what_is_no_bundle_is_one_line(
    onnx_bundle: Path, tmp_path: Path, break_it: Callable[[Path], Any], expected: str
) -> None:
    broken = Path(shutil.copytree(onnx_bundle, tmp_path / "broken"))
    break_it(broken / "manifest.json")
    done = warm(tmp_path, ["diff", onnx_bundle, broken])
    assert done.code == 1
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
