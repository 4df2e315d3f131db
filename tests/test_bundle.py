"""Bundles: complete, described, reproducible."""

import errno
import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageOps
from safetensors.torch import save_file

from mobilesam_export.backends.onnx import backend as onnx
from mobilesam_export.bundle import golden, manifest, staging, swap
from mobilesam_export.checkpoint.load import load_matching_checkpoint
from mobilesam_export.contract import Array
from mobilesam_export.errors import BundleError, UsageError
from mobilesam_export.metrics import mask_iou
from mobilesam_export.model.architecture import load_architecture
from tests.cli_runner import warm
from tests.conftest import WEIGHTS


def golden_images(folder: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((folder / "golden" / "golden.json").read_text())[
        "images"
    ]
    return loaded


def read_tensors(folder: Path, items: list[dict[str, object]]) -> dict[str, Array]:
    """As an app would: raw little-endian numbers in the shape that golden.json gives."""
    return {
        str(item["name"]): np.fromfile(
            folder / "golden" / str(item["file"]), np.dtype(str(item["dtype"])).newbyteorder("<")
        ).reshape(item["shape"])  # type: ignore[call-overload]
        for item in items
    }


def test_the_manifest_names_every_file_and_nothing_else(onnx_bundle: Path) -> None:
    manifest = json.loads((onnx_bundle / "manifest.json").read_text())
    found = {p.relative_to(onnx_bundle).as_posix() for p in onnx_bundle.rglob("*") if p.is_file()}
    assert found == {"manifest.json", *manifest["files"]}


def test_the_manifest_states_contract_provenance_and_verification(onnx_bundle: Path) -> None:
    manifest = json.loads((onnx_bundle / "manifest.json").read_text())
    assert manifest["contract"]["encoder"]["inputs"][0]["shape"] == [1, 256, 256, 3]
    assert manifest["contract"]["points"] == 6
    assert manifest["checkpoint"]["source"] == WEIGHTS
    assert manifest["checkpoint"]["trained"] is False
    assert manifest["verification"]["status"] == "passed"
    assert len(manifest["verification"]["prompts"]) == 10
    assert {"torch", "onnx", "mobilesam-export"} <= manifest["versions"].keys()


def test_a_bundle_that_no_chip_has_run_says_so(coreml_bundle: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("Core ML is here")
    readme = (coreml_bundle / "README.md").read_text()
    assert "**Passed** with MIL interpreter, float16" in readme
    assert "No chip has run these files" in readme


def test_golden_vectors_are_what_the_files_compute(onnx_bundle: Path) -> None:
    """Run as an app developer would, from golden.json alone."""
    contract = manifest.open_bundle(onnx_bundle).contract
    encoder = onnx.load(onnx_bundle / "encoder.onnx", contract.encoder)
    decoder = onnx.load(onnx_bundle / "decoder.onnx", contract.decoder)
    for image in golden_images(onnx_bundle):
        found = encoder.run(read_tensors(onnx_bundle, image["encoder"]["inputs"]))
        expected = read_tensors(onnx_bundle, image["encoder"]["outputs"])
        assert np.abs(found["image_embeddings"] - expected["image_embeddings"]).max() <= 1e-4
        for prompt in image["prompts"]:
            inputs = {
                **expected,
                "mask_input": np.zeros((1, 1, 64, 64), np.float32),
                **read_tensors(onnx_bundle, prompt["inputs"]),
            }
            outputs = decoder.run(inputs)
            for name, value in read_tensors(onnx_bundle, prompt["outputs"]).items():
                assert np.abs(outputs[name] - value).max() <= 1e-3


def test_golden_images_and_masks_fit(onnx_bundle: Path) -> None:
    for item in golden_images(onnx_bundle):
        image = ImageOps.exif_transpose(Image.open(onnx_bundle / "golden" / item["file"]))
        assert image.size == (item["width"], item["height"])
        for prompt in item["prompts"]:
            mask = np.asarray(Image.open(onnx_bundle / "golden" / prompt["mask"]))
            assert mask.shape == (item["height"], item["width"])
            assert 0 < mask.mean() < 1


def test_the_golden_portrait_must_be_reduced_and_turned(onnx_bundle: Path) -> None:
    landscape, portrait = golden_images(onnx_bundle)
    assert landscape["orientation"] == 1
    assert landscape["width"] < 256
    assert portrait["orientation"] == 6
    assert portrait["height"] > 2048
    with Image.open(onnx_bundle / "golden" / portrait["file"]) as stored:
        assert stored.format == "JPEG"
        assert stored.size == (portrait["height"], portrait["width"])


def test_golden_vectors_are_read_back_as_written(onnx_bundle: Path, tmp_path: Path) -> None:
    cases = golden.read(onnx_bundle / "golden")
    assert [case.name for case in cases] == ["landscape", "portrait"]
    contract = manifest.open_bundle(onnx_bundle).contract
    golden.write(tmp_path / "golden", [replace(case, name="x") for case in cases[1:]], contract)
    (again,) = golden.read(tmp_path / "golden")
    assert np.array_equal(again.image, cases[1].image)
    assert np.array_equal(again.embeddings, cases[1].embeddings)
    for left, right in zip(again.prompts, cases[1].prompts, strict=True):
        assert (left.name, left.prompt.points, left.prompt.box) == (
            right.name,
            right.prompt.points,
            right.prompt.box,
        )
        assert np.array_equal(left.answer.mask, right.answer.mask)


def test_the_code_in_the_readme_runs_in_the_bundle(
    onnx_demo_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (onnx_demo_bundle / "README.md").read_text()
    code = readme.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(onnx_demo_bundle)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the bundle stays as it is
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 it is our own text
    printed = capsys.readouterr().out
    assert float(printed.rpartition(":")[2]) >= 0.99


@pytest.mark.parametrize("name", ["onnx_bundle", "onnx_sam_bundle", "coreml_bundle"])
def test_the_readme_is_filled_in(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    text = (folder / "README.md").read_text()
    assert "$" not in text.replace("$0", "")
    assert "not trained" in text
    for item in ("image_embeddings", "point_coords", "low_res_masks"):
        assert f"`{item}`" in text
    assert "\n\n\n" not in re.sub(r"^```.*?^```", "code", text, flags=re.M | re.S)


@pytest.mark.parametrize("name", ["onnx_bundle", "onnx_sam_bundle", "coreml_bundle"])
def test_the_readme_says_first_what_the_files_need(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    text = (folder / "README.md").read_text()
    assert text.index("**Needs ") < text.index("`encoder.") < text.index("`decoder.")


@pytest.mark.parametrize("name", ["onnx_bundle", "onnx_sam_bundle", "coreml_bundle"])
def test_the_readme_names_only_files_that_are_there(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    text = (folder / "README.md").read_text()
    named = re.findall(r"\b((?:sample|golden)/[\w./-]*\w)", text)
    assert not [path for path in named if not (folder / path).exists()]
    samples = {path.name for path in folder.glob("sample/*")}
    assert samples == set(re.findall(r"^### \w+: `sample/(\w+)`$", text, re.M))


def test_the_readme_is_a_model_card(onnx_demo_bundle: Path) -> None:
    _, head, _ = (onnx_demo_bundle / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["license"] == "apache-2.0"
    assert card["pipeline_tag"] == "mask-generation"
    assert {"mobilesam", "segment-anything", "onnx"} <= set(card["tags"])
    assert "base_model" not in card


def test_files_can_be_checked_without_the_program(onnx_bundle: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(command, cwd=onnx_bundle, check=True)
    listed = {line.split("  ")[1] for line in (onnx_bundle / "SHA256SUMS").read_text().splitlines()}
    there = {p.relative_to(onnx_bundle).as_posix() for p in onnx_bundle.rglob("*") if p.is_file()}
    assert there - listed == {"SHA256SUMS", "manifest.json"}


def test_the_license_is_the_repository_s(onnx_bundle: Path) -> None:
    root = Path(__file__).parents[1]
    assert (onnx_bundle / "LICENSE").read_text() == (root / "LICENSE").read_text()


@pytest.mark.parametrize(
    "name", ["onnx_bundle", "onnx_sam_bundle", "coreml_bundle", "tflite_bundle"]
)
def test_prose_of_the_readme_is_short_lines(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    text = re.sub(r"^```.*?^```", "", (folder / "README.md").read_text(), flags=re.M | re.S)
    assert not [line for line in text.splitlines() if len(line) > 100 and line[0] != "|"]


def test_the_same_export_gives_the_same_bytes(coreml_bundle: Path, tmp_path: Path) -> None:
    """That of ONNX is in tests/test_wheel.py."""
    options = ["-c", WEIGHTS, "--image-size", "256", "--no-verify", "-o", str(tmp_path / "again")]
    command = [sys.executable, "-m", "mobilesam_export", "coreml", *options]
    subprocess.run(command, check=True, capture_output=True)
    first, second = (
        json.loads((folder / "manifest.json").read_text())["files"]
        for folder in (coreml_bundle, tmp_path / "again")
    )
    for name in ("README.md", "SHA256SUMS"):  # the README says whether the files are verified
        assert first.pop(name) != second.pop(name)
    assert first == second


def test_files_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    """Weights are chosen by sums of what samples hold, which are of one order."""
    files = []
    for count in (1, 2):
        options = ["-r", "w4", "-c", WEIGHTS, "--image-size", 256, "--no-verify", "-o", count]
        done = warm(tmp_path, ["onnx", *options], before=[partial(torch.set_num_threads, count)])
        assert done.code == 0, done.stderr
        files.append(json.loads((tmp_path / str(count) / "manifest.json").read_text())["files"])
    assert files[0] == files[1]


def test_two_folders_are_exchanged(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    swap.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()


def test_without_exchange_two_renames_do_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_exchange", lambda *_: errno.ENOSYS)
    test_two_folders_are_exchanged(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_exchange_with_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotFoundError):
        swap.exchange(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("found", [[], ["x.txt"], ["manifest.json"], ["golden/mine.png"]])
def test_only_our_own_files_are_ever_replaced(tmp_path: Path, found: list[str]) -> None:
    for name in found:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    if not found:
        staging.check_replaceable(tmp_path)
        return
    with pytest.raises(BundleError, match="did not write"):
        staging.check_replaceable(tmp_path)


def test_caches_of_the_samples_tools_do_not_stop_the_next_export(tmp_path: Path) -> None:
    """Python leaves __pycache__ when the self-test runs, npm node_modules."""
    for name in ("sample/python/__pycache__/mobilesam.pyc", "sample/web/node_modules/a/b.js"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    staging.check_replaceable(tmp_path)
    (tmp_path / "sample" / "web" / "mine.js").touch()
    with pytest.raises(BundleError, match=r"sample/web/mine\.js"):
        staging.check_replaceable(tmp_path)


def test_a_stage_that_is_not_published_is_gone(tmp_path: Path) -> None:
    with staging.staging(tmp_path / "b") as stage:
        (stage / "file").touch()
        assert stage.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_be_named_as_the_manifest_names_it(
    onnx_bundle: Path,
    state_dict: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused only where nobody gave it: then there is a name and no path."""
    monkeypatch.chdir(tmp_path)
    save_file(state_dict, "mine.safetensors", load_architecture("tiny").metadata())
    opened = manifest.open_bundle(onnx_bundle)
    made_of = replace(opened.provenance, source="mine.safetensors", file_sha256="of the file")
    found = load_matching_checkpoint(made_of, "mine.safetensors")
    assert found.provenance.source == "mine.safetensors"
    with pytest.raises(UsageError, match="give its path with -c"):
        load_matching_checkpoint(made_of, None)


def test_masks_of_golden_vectors_differ_between_prompts(onnx_bundle: Path) -> None:
    masks = [
        np.asarray(Image.open(onnx_bundle / "golden" / "landscape" / name / "mask.png"))
        for name in ("click", "box")
    ]
    assert mask_iou(*masks) < 0.99
