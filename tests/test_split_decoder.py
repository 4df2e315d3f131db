"""`--split-decoder` and its files: `decoder_prepared` on what `prepare` made is the decoder."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mobilesam_export.bundle.describe import inspect_path
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.contract import Array, Contract
from mobilesam_export.diff.run import diff_bundles
from mobilesam_export.graphs import as_session, prepared_graphs, split_graphs
from mobilesam_export.model import Sam
from mobilesam_export.predictor import EmbeddedImage, Predictor
from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import scene
from mobilesam_export.session import Session
from mobilesam_export.target import load_target
from mobilesam_export.verification.status import Status
from tests.cli_runner import ERROR, FAILED, USAGE, error_line, refused, warm
from tests.test_prompt_sets import reuse

SIZE, EQUAL = 256, 1e-4  # of logits
SPLIT = "onnx-split"  # the bundle's folder
CONTRACT = Contract(SIZE, 6, load_target("onnx").graph, split=True)
IMAGE = (SIZE, SIZE)
CLICK = Prompt(points=((40, 60, True),))


@pytest.fixture(scope="module")
def predictor(sam: Sam) -> Predictor:
    """PyTorch's export forms without an encoder."""

    def none(inputs: dict[str, Array]) -> dict[str, Array]:
        raise AssertionError(inputs)

    decoder = split_graphs(sam, CONTRACT)[1]
    prepare, prepared = (as_session(graph) for graph in prepared_graphs(sam, CONTRACT))
    return Predictor(
        Session(none, "none"),
        as_session(decoder),
        CONTRACT,
        prepare=prepare,
        decoder_prepared=prepared,
    )


def embedded(seed: int = 3) -> EmbeddedImage:
    values = np.random.default_rng(seed).normal(size=(1, 256, SIZE // 16, SIZE // 16))
    return EmbeddedImage(values.astype(np.float32), IMAGE)


COORDINATE = st.floats(0, SIZE, width=32)
POINTS = st.lists(st.tuples(COORDINATE, COORDINATE, st.booleans()), min_size=1, max_size=4)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(points=POINTS, boxed=st.booleans(), seed=st.integers(0, 99))
def test_prepared_answers_are_the_decoders(
    points: list[tuple[float, float, bool]], boxed: bool, seed: int, predictor: Predictor
) -> None:
    prompt = Prompt(tuple(points), (10, 20, 200, 150) if boxed else None)
    image = embedded(seed)
    expected = predictor.decode(prompt, image)  # not prepared: the decoder answers
    found = predictor.decode(prompt, predictor.with_prepared(image))
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert np.abs(found[name] - value).max() < EQUAL, name


def counting(predictor: Predictor) -> tuple[Predictor, list[str]]:
    """The same, and the files that it has run."""
    calls: list[str] = []

    def counted(name: str) -> Session:
        session: Session = getattr(predictor, name)

        def run(inputs: dict[str, Array]) -> dict[str, Array]:
            calls.append(name)
            return session.run(inputs)

        return replace(session, run=run)

    return replace(
        predictor,
        decoder=counted("decoder"),
        prepare=counted("prepare"),
        decoder_prepared=counted("decoder_prepared"),
    ), calls


def test_the_image_is_prepared_once_for_all_its_clicks(predictor: Predictor) -> None:
    counted, calls = counting(predictor)
    image = counted.with_prepared(embedded())
    for _ in range(2):
        counted.predict(CLICK, image)
    assert calls == ["prepare", "decoder_prepared", "decoder_prepared"]


def test_a_mask_input_is_answered_by_the_decoder(predictor: Predictor) -> None:
    counted, calls = counting(predictor)
    image = counted.with_prepared(embedded())
    mask = np.random.default_rng(1).normal(size=(1, 1, SIZE // 4, SIZE // 4)).astype(np.float32)
    asked = replace(CLICK, mask_input=5 * mask)
    answer = counted.decode(asked, image)
    assert calls == ["prepare", "decoder"]
    expected = predictor.decode(asked, embedded())
    assert np.array_equal(answer["low_res_masks"], expected["low_res_masks"])
    without = counted.decode(CLICK, image)  # the mask does count
    assert np.abs(without["low_res_masks"] - answer["low_res_masks"]).max() > EQUAL


def exported(folder: Path, base: Path) -> Path:
    """The demo weights' bundle with both further files; the others are copied."""
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            asked = ["onnx", "-c", "demo", "--image-size", SIZE, "--split-decoder", "-o", folder]
            done = warm(folder.parent, asked, before=[partial(reuse, base)])
            assert done.code == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def bundle(shared: Path, onnx_demo_bundle: Path) -> Path:
    return exported(shared / SPLIT, onnx_demo_bundle)


def test_both_files_are_verified_in_the_contract_and_on_four_axes(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    report = manifest["verification"]
    assert report["status"] == Status.PASSED
    masked = [item for item in report["prompts"] if "mask" in item["prompt"]]
    assert masked
    assert len(report["prepared"]) == len(report["prompts"]) - len(masked)
    assert max(item["logits_max_abs_error"] for item in report["prepared"]) < EQUAL
    opened = open_bundle(bundle)
    assert opened.contract == replace(CONTRACT, form=opened.contract.form)
    for found in inspect_path(bundle)[2:]:
        spec = getattr(opened.contract, found.file.partition(".")[0])
        for tensors, specs in ((found.inputs, spec.inputs), (found.outputs, spec.outputs)):
            assert [(t.name, t.shape) for t in tensors] == [(s.name, s.shape) for s in specs]
        assert found.largest_rank is None or len(found.largest_rank.shape or ()) <= 4
    assert [path.name in (bundle / "SHA256SUMS").read_text() for path in bundle.glob("*.onnx")]
    assert "once per image: what" in (bundle / "README.md").read_text()


def test_segment_finds_the_same_mask_with_it(
    bundle: Path, onnx_demo_bundle: Path, tmp_path: Path
) -> None:
    Image.fromarray(scene(5, 160, 240)).save(tmp_path / "photo.png")
    masks = []
    for number, folder in enumerate((onnx_demo_bundle, bundle)):
        out = f"{number}.png"
        done = warm(tmp_path, ["segment", folder, "photo.png", "--point", "120,80", "-o", out])
        assert done.code == 0, done.stderr
        masks.append(np.asarray(Image.open(tmp_path / out)))
    assert masks[0].any()
    assert (masks[0] != masks[1]).mean() < 1e-3


def test_the_files_added_break_no_app_and_their_removal_does(
    bundle: Path, onnx_demo_bundle: Path
) -> None:
    assert not diff_bundles(onnx_demo_bundle, bundle).breaking
    removed = {change.what for change in diff_bundles(bundle, onnx_demo_bundle).breaking}
    for name in ("prepare", "decoder_prepared"):
        assert {f"contract.{name}", f"files.removed.{name}.onnx"} <= removed


@pytest.mark.parametrize("foreign", [False, True])
def test_a_missing_or_foreign_file_is_named(bundle: Path, tmp_path: Path, foreign: bool) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / "prepare.onnx").unlink()
    if foreign:
        shutil.copyfile(copy / "decoder_prepared.onnx", copy / "prepare.onnx")
    Image.fromarray(scene(5, 160, 240)).save(tmp_path / "photo.png")
    done = warm(tmp_path, ["segment", "copy", "photo.png", "--point", "9,9", "-o", "mask.png"])
    assert done.code == ERROR
    phrase = "prepare.onnx is not the file that was exported" if foreign else "is missing"
    assert phrase in error_line(done.stderr)
    assert "export again" in error_line(done.stderr)
    assert not (tmp_path / "mask.png").exists()


def test_files_of_another_checkpoint_fail_verification(
    bundle: Path, onnx_bundle: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("prepare", "decoder_prepared"):
        shutil.copyfile(bundle / f"{name}.onnx", foreign / f"{name}.onnx")
    asked = ["onnx", "-c", "seeded", "--image-size", SIZE, "--split-decoder", "-o", "made"]
    done = warm(tmp_path, asked, before=[partial(reuse, foreign, onnx_bundle)])
    assert done.code == FAILED
    assert "in decoder_prepared: logits" in done.stdout
    assert not (tmp_path / "made").exists()


def test_the_split_files_are_gated_and_timed_where_both_have_them(
    bundle: Path, onnx_demo_bundle: Path, tmp_path: Path
) -> None:
    pairs = ["--max-pairs", 2, "--max-seconds", 30]
    done = warm(tmp_path, ["compare", bundle, bundle, *pairs, "--save", "kept.json"])
    assert done.code == 0, done.stderr
    kept = json.loads((tmp_path / "kept.json").read_text())
    both = {"prepare", "decoder_prepared"}
    assert both <= {gate["component"] for gate in kept["gates"]}
    assert both <= {*kept["decisions"]}
    phrase = "--component is prepare, which base and candidate do not both have"
    asked = ["compare", onnx_demo_bundle, bundle, "--component", "prepare"]
    refused(tmp_path, asked, USAGE, [phrase])


def test_sams_own_interface_is_not_split(tmp_path: Path) -> None:
    phrase = "SAM's own interface has one decoder, which is not split"
    refused(tmp_path, ["onnx-sam", "-c", "seeded", "--split-decoder"], USAGE, [phrase])
