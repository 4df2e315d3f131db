"""`benchmark` as a user runs it, on small bundles."""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilesam_export.benchmark import timing
from tests.cli_runner import ERROR, FAILED, USAGE, refused, warm
from tests.fault_points import INTERRUPT, at_call, at_line

QUICK = ("--rounds", "3", "--warmup", "1", "--loads", "2", "--threads", "1")
BUDGET = 'device = "cpu"\n[median_ms]\n'


def run(folder: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    result = warm(folder, ["benchmark", *arguments, "--json"])
    assert result.code == code, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def budget(folder: Path, text: str) -> Path:
    path = folder / "budget.toml"
    path.write_text(BUDGET + text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def results(onnx_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of one run over everything, with every form of output."""
    folder = tmp_path_factory.mktemp("benchmark")
    outputs = ("--save", "all.json", "--plot", "all.png", "--markdown", "all.md")
    found = run(folder, onnx_bundle, *QUICK, *outputs, "--budget", "paper")
    assert json.loads((folder / "all.json").read_text())["rows"] == found["rows"]
    with Image.open(folder / "all.png") as image:
        assert image.width > 500
    assert "| encoder | " in (folder / "all.md").read_text()
    return {**json.loads((folder / "all.json").read_text()), "folder": folder}


def test_every_component_has_its_raw_times_and_figures(results: dict[str, Any]) -> None:
    assert [row["component"] for row in results["rows"]] == [
        "encoder", "decoder", "preprocess", "postprocess", "click_to_mask", "image_to_mask",
    ]  # fmt: skip
    for row in results["rows"]:
        assert len(row["times_ms"]) == 3
        assert len(row["warmup_ms"]) == 1
        assert row["latency"]["median_ms"] == pytest.approx(np.median(row["times_ms"]))
        assert row["latency"]["p99_ms"] is None
        assert row["device"] == "cpu"


def test_load_and_cold_start_are_apart_and_only_of_files(results: dict[str, Any]) -> None:
    for row in results["rows"]:
        count = 2 if row["component"] in ("encoder", "decoder") else 0
        assert len(row["load_ms"]) == len(row["cold_ms"]) == count


def test_answers_are_checked(results: dict[str, Any]) -> None:
    answers = {row["component"]: row["answers"] for row in results["rows"]}
    assert [name for name, said in answers.items() if said == "right"] == [
        "encoder", "decoder", "click_to_mask", "image_to_mask",
    ]  # fmt: skip


def test_a_image_takes_longer_than_a_click_and_a_click_than_its_decoder(
    results: dict[str, Any],
) -> None:
    least = {row["component"]: row["latency"]["min_ms"] for row in results["rows"]}
    # Minima, and not the sum of the parts: each is timed at a moment of its own, and a busy machine
    # moves a median more than pre- and post-processing add.
    assert least["image_to_mask"] > least["click_to_mask"] > 0


def test_the_machine_and_how_it_was_measured_are_kept(results: dict[str, Any]) -> None:
    machine = results["machine"]
    assert machine["cores"] >= 1
    assert {"torch", "onnxruntime", "numpy"} <= set(machine["versions"])
    assert results["options"]["threads"] == 1
    assert results["options"]["schedule"]["rounds"] == 3
    assert not results["partial"]


def test_the_papers_budget_is_unverified_without_a_gpu(results: dict[str, Any]) -> None:
    if results["machine"]["gpu"]:
        pytest.skip("there is a GPU")
    judgements = results["budget"]["judgements"]
    assert {(j["verdict"], j["reason"]) for j in judgements} == {("unverified", "no GPU here")}


def test_the_roofline_has_the_macs_that_inspect_counts(results: dict[str, Any]) -> None:
    lines = {line["component"]: line for line in results["roofline"]}
    figures = next(iter(results["bundles"].values()))["figures"]
    for name in ("encoder", "decoder"):
        assert lines[name]["macs"] == figures[name]["macs"] > 0
        assert lines[name]["bound_ms"] > 0
        median = next(r for r in results["rows"] if r["component"] == name)["latency"]["median_ms"]
        assert lines[name]["share"] == pytest.approx(lines[name]["bound_ms"] / median)


def test_a_kept_budget_passes_and_a_broken_one_fails_with_3(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    one = (onnx_bundle, *QUICK, "--component", "decoder", "--budget")
    assert run(tmp_path, *one, budget(tmp_path, "decoder = 1e6"))["rows"]
    text = warm(tmp_path, ["benchmark", *one, budget(tmp_path, "decoder = 1e-6")])
    assert text.code == FAILED
    assert "fail" in text.stdout


def test_strict_makes_an_unverified_budget_fail(onnx_bundle: Path, tmp_path: Path) -> None:
    path = budget(tmp_path, "encoder = 1e6")
    one = (onnx_bundle, *QUICK, "--component", "decoder", "--budget", path)
    assert run(tmp_path, *one)["budget"]["judgements"][0]["verdict"] == "unverified"
    run(tmp_path, *one, "--strict", code=FAILED)


def test_a_file_that_answers_wrongly_is_named_and_fails(onnx_bundle: Path, tmp_path: Path) -> None:
    """The golden embedding of the bundle is turned round, and the manifest vouches for it."""
    from tests.test_bad_input_bundle import vouch

    bundle = Path(shutil.copytree(onnx_bundle, tmp_path / "bundle"))
    path = bundle / "golden" / "landscape" / "encoder" / "image_embeddings.float32"
    (-np.fromfile(path, np.float32)).tofile(path)
    vouch(bundle, "golden/landscape/encoder/image_embeddings.float32")
    found = run(tmp_path, bundle, *QUICK, "--component", "encoder", code=FAILED)
    assert "embedding PSNR" in found["rows"][0]["answers"]


def test_core_ml_is_unverified_without_macos(coreml_bundle: Path, tmp_path: Path) -> None:
    result = warm(tmp_path, ["benchmark", coreml_bundle, *QUICK])
    assert result.code == 0, result.stderr
    assert "unverified: " in result.stdout
    assert "Core ML needs macOS (encoder, decoder" in result.stdout


def test_a_device_that_is_not_here_is_unverified(onnx_bundle: Path, tmp_path: Path) -> None:
    found = run(tmp_path, onnx_bundle, *QUICK, "--device", "abacus")
    assert {row["unverified"] for row in found["rows"]} == {"onnx bundles do not run on abacus"}


def test_pytorch_beside_a_bundle(onnx_bundle: Path, tmp_path: Path) -> None:
    one = (onnx_bundle, *QUICK, "--component", "decoder")
    found = run(tmp_path, *one, "--pytorch", "eager", "--pytorch", "cuda-graph:bfloat16")
    rows = {row["subject"]: row for row in found["rows"]}
    assert rows["pytorch eager:float32"]["answers"] == "right"
    missing = rows["pytorch cuda-graph:bfloat16"]
    assert missing["unverified"] == "CUDA graphs need --device cuda"


@pytest.mark.parametrize(
    ("arguments", "code", "phrases"),
    [
        ([], USAGE, ["nothing to measure", "BUNDLE or --import"]),
        (["BUNDLE", "--rounds", "0"], USAGE, ["--rounds is 0", "1 or more"]),
        (["BUNDLE", "--warmup", "-1"], USAGE, ["--warmup is -1"]),
        (["BUNDLE", "--max-seconds", "0"], USAGE, ["--max-seconds is 0"]),
        (["BUNDLE", "BUNDLE"], USAGE, ["given twice"]),
        (["BUNDLE", "--save", "x.txt"], USAGE, ["x.txt", ".json"]),
        (["BUNDLE", "--plot", "no/x.png"], USAGE, ["no/x.png", "no such folder"]),
        (["BUNDLE", "--budget", "papers"], ERROR, ["no budget 'papers'", "paper"]),
        (["BUNDLE", "--pytorch", "jit"], USAGE, ["--pytorch jit", "compiled"]),
        (["nowhere"], ERROR, ["nowhere does not exist"]),
        (["--import", "nowhere.txt"], ERROR, ["cannot read nowhere.txt"]),
    ],
)
def test_bad_input_is_one_line(
    onnx_bundle: Path, tmp_path: Path, arguments: Sequence[str], code: int, phrases: Sequence[str]
) -> None:
    given = [onnx_bundle if a == "BUNDLE" else a for a in arguments]
    refused(tmp_path, ["benchmark", *given], code, phrases)


def test_a_budget_for_an_unknown_component_is_one_line(onnx_bundle: Path, tmp_path: Path) -> None:
    path = budget(tmp_path, "backbone = 5")
    phrases = ["budget.toml", "unknown component 'backbone'", "encoder"]
    refused(tmp_path, ["benchmark", onnx_bundle, "--budget", path], ERROR, phrases)


def test_a_damaged_bundle_is_one_line(onnx_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(onnx_bundle, tmp_path / "bundle"))
    (bundle / "encoder.onnx").write_bytes(b"")
    refused(tmp_path, ["benchmark", bundle], ERROR, ["is damaged", "encoder.onnx"])


def test_ctrl_c_keeps_what_was_measured_and_marks_it_partial(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    second_call = partial(at_call, f"{timing.__name__}:time_call", INTERRUPT, 1)
    fault = partial(at_line, "Timing decoder", second_call)
    arguments = ["benchmark", onnx_bundle, *QUICK, "--save", "kept.json"]
    result = warm(tmp_path, arguments, before=[fault])
    assert result.code == ERROR
    assert "Error: interrupted; the " in result.stderr
    assert "marked partial" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout.startswith("PARTIAL")
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["partial"]
    rows = {row["component"]: row for row in kept["rows"]}
    assert len(rows["encoder"]["times_ms"]) >= 3
    assert rows["image_to_mask"]["unverified"] == "interrupted before it was measured"
