"""`compare` as a user runs it: gates, verdicts, outputs, stored baselines and bad input."""

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest

from mobilesam_export.compare import pairs
from tests.cli_runner import ERROR, FAILED, USAGE, refused, warm
from tests.fault_points import INTERRUPT, at_call
from tests.test_bad_input_bundle import vouch


def run(folder: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    result = warm(folder, ["compare", *arguments, "--json"])
    assert result.code == code, f"{result.stdout}\n{result.stderr}"
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def gates(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(gate["component"], gate["figure"]): gate for gate in found["gates"]}


@pytest.fixture(scope="module")
def baseline(onnx_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `benchmark --save` keeps of the bundle."""
    folder = tmp_path_factory.mktemp("baseline")
    one = ["--component", "decoder", "--rounds", "1", "--warmup", "0", "--loads", "1"]
    done = warm(folder, ["benchmark", onnx_bundle, *one, "--save", "base.json"])
    assert done.code == 0, done.stderr
    return folder / "base.json"


@pytest.fixture
def padded(onnx_bundle: Path, tmp_path: Path) -> Path:
    """The bundle with two transposes more at the decoder's end, which undo each other."""
    bundle = Path(shutil.copytree(onnx_bundle, tmp_path / "padded"))
    model = onnx.load(bundle / "decoder.onnx")
    last = next(n for n in model.graph.node if "iou_predictions" in n.output)
    last.output[:] = ["before" if name == "iou_predictions" else name for name in last.output]
    for source, target in (("before", "between"), ("between", "iou_predictions")):
        model.graph.node.append(onnx.helper.make_node("Transpose", [source], [target], perm=[1, 0]))
    onnx.save(model, bundle / "decoder.onnx")
    vouch(bundle, "decoder.onnx")
    return bundle


def test_a_bundle_against_itself_passes_every_gate_that_is_known(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    outputs = ("--markdown", "c.md", "--junit", "c.xml", "--save", "c.json")
    limits = ("--component", "decoder", "--limit", "time=3", *outputs)
    found = run(tmp_path, onnx_bundle, onnx_bundle, *limits)
    assert found["failed"] == []
    decision = found["decisions"]["decoder"]
    assert decision["verdict"] == "same"
    assert decision["low"] <= decision["ratio"] <= decision["high"] <= 3
    assert sum(len(block) for block in decision["blocks_ms"]) == decision["pairs"] >= 24
    assert gates(found)["bundle", "mask_iou"]["candidate"] == 1.0
    assert {gate["verdict"] for gate in found["gates"]} == {"pass", "unverified"}
    assert json.loads((tmp_path / "c.json").read_text())["decisions"] == found["decisions"]
    assert "passed" in (tmp_path / "c.md").read_text().splitlines()[0]
    suite = ET.parse(tmp_path / "c.xml").getroot()  # noqa: S314 our own file
    assert suite.get("failures") == "0"
    assert int(suite.get("tests", 0)) == len(found["gates"]) + 1


def test_more_transposes_fail_and_are_named(
    onnx_bundle: Path, padded: Path, tmp_path: Path
) -> None:
    found = run(tmp_path, onnx_bundle, padded, "--no-times", "--junit", "c.xml", code=FAILED)
    assert found["failed"] == ["decoder transposes"]
    gate = gates(found)["decoder", "transposes"]
    assert gate["candidate"] == gate["base"] + 2
    failures = ET.parse(tmp_path / "c.xml").getroot().findall(".//failure")  # noqa: S314
    assert len(failures) == 1


def test_a_limit_can_be_raised(onnx_bundle: Path, padded: Path, tmp_path: Path) -> None:
    raised = ("--no-times", "--limit", "transposes=1.1")
    assert run(tmp_path, onnx_bundle, padded, *raised)["failed"] == []


def test_other_weights_fail_by_their_masks(onnx_bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(onnx_bundle, tmp_path / "other"))
    model = onnx.load(other / "encoder.onnx")
    (neck,) = [item for item in model.graph.initializer if item.name.endswith("neck.2.weight")]
    values = onnx.numpy_helper.to_array(neck)
    neck.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), neck.name))
    onnx.save(model, other / "encoder.onnx")
    vouch(other, "encoder.onnx")
    found = run(tmp_path, onnx_bundle, other, "--no-times", code=FAILED)
    assert found["failed"] == ["bundle mask_iou"]


def test_a_stored_baseline_gates_all_but_times(
    onnx_bundle: Path, padded: Path, baseline: Path, tmp_path: Path
) -> None:
    found = run(tmp_path, baseline, onnx_bundle)
    assert found["failed"] == []
    assert {d["verdict"] for d in found["decisions"].values()} == {"not comparable"}
    assert gates(found)["bundle", "mask_iou"]["candidate"] == 1.0
    assert run(tmp_path, baseline, padded, code=FAILED)["failed"] == ["decoder transposes"]


def test_a_baseline_of_another_machine_says_so(
    onnx_bundle: Path, baseline: Path, tmp_path: Path
) -> None:
    kept = json.loads(baseline.read_text())
    kept["machine"]["fingerprint"] = "another"
    (tmp_path / "far.json").write_text(json.dumps(kept))
    found = run(tmp_path, "far.json", onnx_bundle)
    assert "another machine" in found["decisions"]["encoder"]["reason"]


def test_core_ml_is_gated_without_a_mac_but_not_timed(coreml_bundle: Path, tmp_path: Path) -> None:
    found = run(tmp_path, coreml_bundle, coreml_bundle)
    assert found["decisions"]["encoder"]["reason"] == "Core ML needs macOS"
    known = gates(found)
    assert known["encoder", "partitions"]["verdict"] == "pass"
    assert known["encoder", "partitions"]["base"] >= 1
    assert known["bundle", "mask_iou"]["candidate"] == 1.0


def empty(bundle: Path) -> None:
    (bundle / "encoder.onnx").write_bytes(b"")


@pytest.mark.parametrize(
    ("options", "code", "phrases"),
    [
        (["--limit", "speed=2"], USAGE, ["--limit speed=2", "mask_iou"]),
        (["--limit", "time=1"], USAGE, ["--limit time=1", "above 1"]),
        (["--limit", "mask_iou=2"], USAGE, ["--limit mask_iou=2", "0 to 1"]),
        (["--limit", "macs"], USAGE, ["--limit macs"]),
        (["--max-pairs", "0"], USAGE, ["--max-pairs is 0"]),
        (["--threads", "-1"], USAGE, ["--threads is -1"]),
        (["--junit", "x.json"], USAGE, ["x.json", ".xml"]),
    ],
)
def test_bad_options_are_one_line(
    onnx_bundle: Path, tmp_path: Path, options: Sequence[str], code: int, phrases: Sequence[str]
) -> None:
    refused(tmp_path, ["compare", onnx_bundle, onnx_bundle, *options], code, phrases)


def test_bundles_of_two_targets_are_refused(
    onnx_bundle: Path, onnx_sam_bundle: Path, tmp_path: Path
) -> None:
    phrases = ["target is onnx", "candidate's onnx-sam", "compare bundles that differ in"]
    refused(tmp_path, ["compare", onnx_bundle, onnx_sam_bundle], USAGE, phrases)


def test_a_damaged_candidate_is_refused(onnx_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(onnx_bundle, tmp_path / "bundle"))
    empty(bundle)
    refused(tmp_path, ["compare", onnx_bundle, bundle], ERROR, ["is damaged", "encoder.onnx"])


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("{", ["not JSON"]),
        ("{}", ["was not written by `benchmark --save`"]),
        ('{"kind": "mobilesam-export benchmark", "schema_version": 99}', ["version 99"]),
        ('{"kind": "mobilesam-export benchmark", "schema_version": 1}', ["0 bundles"]),
    ],
)
def test_a_file_that_is_no_baseline_is_refused(
    onnx_bundle: Path, tmp_path: Path, text: str, phrases: Sequence[str]
) -> None:
    (tmp_path / "base.json").write_text(text)
    refused(tmp_path, ["compare", "base.json", onnx_bundle], ERROR, phrases)


def test_ctrl_c_keeps_the_pairs_and_marks_them_partial(onnx_bundle: Path, tmp_path: Path) -> None:
    limits = ["--max-pairs", "100000", "--max-seconds", "1000", "--limit", "time=1.000001"]
    within_the_second_block = 2 * 4 + 2  # 4 pairs are a block
    fault = partial(at_call, f"{pairs.__name__}:time_call", INTERRUPT, within_the_second_block)
    arguments = ["compare", onnx_bundle, onnx_bundle, *limits, "--save", "c.json"]
    result = warm(tmp_path, arguments, before=[fault])
    assert result.code == ERROR, result.stderr
    assert "Error: interrupted; " in result.stderr
    assert "PARTIAL" in result.stdout
    kept = json.loads((tmp_path / "c.json").read_text())
    assert kept["partial"]
    assert kept["decisions"]["encoder"]["verdict"] == "inconclusive"
