"""`--prompt-sets Q` and its file `decoder_batch`: each set is answered as by the decoder."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from mobilesam_export.backends import backend_names, get_backend
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.bundle.describe import inspect_path
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.contract import EMPTY, Array, Contract
from mobilesam_export.diff.run import diff_bundles
from mobilesam_export.graphs import Graph, as_session, batch_graph, decoder_sets, split_graphs
from mobilesam_export.inspection.placement import Verdict
from mobilesam_export.model import Sam
from mobilesam_export.scenes import scene
from mobilesam_export.target import load_target
from mobilesam_export.verification.status import Status
from tests.cli_runner import ERROR, USAGE, error_line, refused, warm

SIZE, SLOTS, SETS = 256, 6, 3
CONTRACT = Contract(SIZE, SLOTS, load_target("onnx").graph, SETS)
EQUAL = 1e-4  # of logits
# By set: labels of the slots, the rest is empty; and whether there is a mask prompt.
ASKED: tuple[tuple[list[int], bool], ...] = (
    ([1], False),
    ([2, 3], False),
    ([], False),
    ([1, 0, 2, 3], True),
    ([], True),
)


def inputs_of(sets: int, contract: Contract = CONTRACT) -> dict[str, Array]:
    """An embedding and the prompts of ASKED by turns, with coordinates of their own."""
    random = np.random.default_rng(5)
    found: dict[str, Array] = {}
    for spec in replace(contract, sets=sets).decoder_batch.inputs:
        found[spec.name] = random.normal(size=spec.shape).astype(np.float32)  # type: ignore[arg-type]
    found["point_coords"] = np.abs(found["point_coords"]) * SIZE / 4
    found["point_labels"][:] = EMPTY
    for place in range(sets):
        labels, masked = ASKED[place % len(ASKED)]
        found["point_labels"][place, : len(labels)] = labels
        found["has_mask_input"][place] = masked
    return found


def alone(inputs: dict[str, Array], place: int) -> dict[str, Array]:
    """The same set as inputs of the decoder."""
    own = {name: value[place : place + 1] for name, value in inputs.items()}
    return {**own, "image_embeddings": inputs["image_embeddings"]}


def batch_session(sam: Sam, sets: int) -> Callable[[dict[str, Array]], dict[str, Array]]:
    graph = batch_graph(sam, replace(CONTRACT, sets=sets))
    assert graph is not None
    return as_session(graph).run


@pytest.mark.parametrize(("sets", "group"), [(1, 16), (5, 16), (5, 2)])
def test_every_set_is_answered_as_the_decoder_answers_it(
    sets: int, group: int, sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one group, and in groups of which the last is smaller."""
    monkeypatch.setattr(decoder_sets, "GROUP_POSITIONS", group * (SIZE // 16) ** 2)
    inputs, decoder = inputs_of(sets), as_session(split_graphs(sam, CONTRACT)[1])
    answers = batch_session(sam, sets)(inputs)
    for place in range(sets):
        expected = decoder.run(alone(inputs, place))
        for name, value in expected.items():
            assert np.abs(answers[name][place] - value[0]).max() < EQUAL, (place, name)


def test_many_sets_are_answered_in_sixteen_groups_at_most(
    sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_sets, "GROUP_POSITIONS", 2 * (SIZE // 16) ** 2)
    groups = {
        sets: decoder_sets.SetsDecoder(sam, CONTRACT.points, sets).group
        for sets in (1, 16, 32, 33, 64)
    }
    assert groups == {1: 1, 16: 2, 32: 2, 33: 3, 64: 4}


def test_the_answer_to_a_set_does_not_depend_on_the_other_sets(sam: Sam) -> None:
    run, inputs = batch_session(sam, 2), inputs_of(2)
    other = {name: value.copy() for name, value in inputs.items()}
    other["point_labels"][1] = EMPTY
    other["has_mask_input"][1] = 1
    other["point_coords"][1] = 0
    first, second = run(inputs), run(other)
    assert np.array_equal(first["low_res_masks"][0], second["low_res_masks"][0])
    assert not np.array_equal(first["low_res_masks"][1], second["low_res_masks"][1])


def test_slots_of_no_label_change_nothing(sam: Sam) -> None:
    run, inputs = batch_session(sam, 2), inputs_of(2)
    moved = {name: value.copy() for name, value in inputs.items()}
    moved["point_coords"][inputs["point_labels"] == EMPTY] += 40
    assert np.array_equal(run(inputs)["low_res_masks"], run(moved)["low_res_masks"])


def reuse(*bundles: Path) -> None:
    """Take each file from the first bundle that has it, in place of converting it again."""
    backend = type(get_backend("onnx"))
    convert = backend.convert

    def copy(self: Any, graph: Graph, conversion: Conversion, path: Path) -> None:
        known = [bundle / path.name for bundle in bundles if (bundle / path.name).exists()]
        if known:
            shutil.copyfile(known[0], path)
        else:
            convert(self, graph, conversion, path)

    backend.convert = copy  # type: ignore[method-assign]


def exported(folder: Path, base: Path) -> Path:
    """A bundle with prompt sets; its other files are those of the same export without."""
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            opened = open_bundle(base)
            names = [opened.target, "-r", opened.recipe_name, "-c", opened.provenance.source]
            options = ["--image-size", SIZE, "--prompt-sets", SETS, "-o", folder]
            before = [partial(reuse, base)]
            done = warm(folder.parent, [*names, *options], before=before)
            assert done.code == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def bundle(shared: Path, onnx_demo_bundle: Path) -> Path:
    return exported(shared / "onnx-prompt-sets", onnx_demo_bundle)


def test_the_file_is_verified_prompt_by_prompt(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    report = manifest["verification"]
    assert report["status"] == Status.PASSED
    asked = [(item["image"], item["prompt"]) for item in report["prompts"]]
    assert [(item["image"], item["prompt"]) for item in report["sets"]] == asked
    assert max(item["logits_max_abs_error"] for item in report["sets"]) < EQUAL
    assert min(item["mask_iou"] for item in report["sets"]) > 0.999


def test_the_manifest_and_the_file_have_the_same_interface(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.contract == replace(CONTRACT, form=opened.contract.form)
    assert "decoder_batch.onnx" in opened.graph_files
    *_, report = inspect_path(bundle)
    assert report.file == "decoder_batch.onnx"
    assert [(t.name, t.shape) for t in report.inputs] == [
        (spec.name, spec.shape) for spec in opened.contract.decoder_batch.inputs
    ]
    assert len(report.largest_rank.shape or ()) <= 4 if report.largest_rank else False
    assert not {"Gather", "Expand", "Tile", "Conv", "ConvTranspose"} & {*report.ops}


def test_readme_and_golden_vectors_say_how_sets_are_filled(bundle: Path) -> None:
    text = (bundle / "README.md").read_text()
    assert f"Decoder for {SETS} prompts about one image at once" in text
    golden = json.loads((bundle / "golden" / "golden.json").read_text())
    assert golden["prompt_sets"]["count"] == SETS
    assert golden["prompt_sets"]["rest"]["point_labels"] == EMPTY


def test_a_further_file_breaks_no_app_and_its_removal_does(
    bundle: Path, onnx_demo_bundle: Path
) -> None:
    added = diff_bundles(onnx_demo_bundle, bundle)
    assert not added.breaking
    (size,) = [c for c in added.changes if c.what == "decoder_batch, bytes"]
    assert size.old == 0
    removed = diff_bundles(bundle, onnx_demo_bundle)
    assert {change.what for change in removed.breaking} >= {
        "contract.prompt_sets",
        "contract.decoder_batch",
        "files.removed.decoder_batch.onnx",
    }


def test_a_file_that_answers_wrongly_fails_verification(
    bundle: Path, onnx_bundle: Path, tmp_path: Path
) -> None:
    """The file of another checkpoint, for instance: nothing is written."""
    batch = tmp_path / "batch"
    batch.mkdir()
    shutil.copyfile(bundle / "decoder_batch.onnx", batch / "decoder_batch.onnx")
    options = ["-c", "seeded", "--image-size", SIZE, "--prompt-sets", SETS, "-o", "made"]
    done = warm(tmp_path, ["onnx", *options], before=[partial(reuse, batch, onnx_bundle)])
    assert done.code == 3
    assert "in decoder_batch: logits" in done.stdout
    assert not (tmp_path / "made").exists()


def test_everything_finds_the_same_masks_with_fewer_calls(
    bundle: Path, onnx_demo_bundle: Path, tmp_path: Path
) -> None:
    Image.fromarray(scene(5, 160, 240)).save(tmp_path / "photo.png")
    sure = ["--pred-iou-thresh", 0.3, "--stability-score-thresh", 0.3, "--points-per-side", 4]
    found = []
    for number, folder in enumerate((onnx_demo_bundle, bundle)):
        out = tmp_path / f"{number}.json"
        done = warm(
            tmp_path, ["segment", folder, "photo.png", "--everything", *sure, "-o", out.name]
        )
        assert done.code == 0, done.stderr
        found.append(json.loads(out.read_text())["annotations"])
    assert len(found[0]) >= 3
    for one, other in zip(*found, strict=True):
        assert one["segmentation"] == other["segmentation"]
        assert one["point_coords"] == other["point_coords"]
        assert one["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["onnx", "--prompt-sets", 0], "--prompt-sets is 0; expected 1 or more"),
        (["onnx", "--prompt-sets", 65], "prompt sets is 65; expected 1 to 64 at image size 1024"),
        (["onnx", "--prompt-sets", 17, "--image-size", 2048], "expected 1 to 16 at image size"),
        (["onnx-sam", "--prompt-sets", 4], "there are no prompt sets with SAM's own interface"),
    ],
)
def test_sets_that_cannot_be(arguments: list[object], phrase: str, tmp_path: Path) -> None:
    refused(tmp_path, [*arguments, "-c", "seeded"], USAGE, [phrase])


def test_a_missing_file_is_named(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / "decoder_batch.onnx").unlink()
    done = warm(tmp_path, ["verify", "copy"])
    assert done.code == ERROR
    assert "decoder_batch.onnx is missing" in error_line(done.stderr)


@pytest.mark.parametrize("name", [name for name in backend_names() if name != "coreai"])
def test_compressed_recipes_leave_the_file_whole(name: str) -> None:
    backend = get_backend(name)
    target = load_target(name)
    for recipe in target.recipes.values():
        whole = recipe.uncompressed(*backend.uncompressed_types())
        convert = {**target.convert, **recipe.convert}
        if recipe.compressed:
            assert backend.parse_recipe(whole, target.graph, convert)
            assert not whole.compressed


def converted(sam: Sam, target_name: str, folder: Path) -> tuple[Graph, Path]:
    """`decoder_batch` alone, in float32."""
    target = load_target(target_name)
    backend, (_, recipe) = get_backend(target.backend), target.recipe("float32")
    contract = replace(CONTRACT, form=target.graph, sets=2)
    graph = batch_graph(sam, contract)
    assert graph is not None
    settings = backend.parse_recipe(recipe, target.graph, {**target.convert, **recipe.convert})
    about = {"description": "", "version": "", "author": "", "license": ""}
    path = folder / f"decoder_batch{backend.suffix}"
    backend.convert(graph, Conversion(settings, recipe, contract, about), path)
    return graph, path


@pytest.mark.parametrize("target", ["coreml", "tflite-gpu"])
def test_a_converted_file_computes_the_same_and_suits_delegates(
    target: str, sam: Sam, tmp_path: Path
) -> None:
    """In the form for GPU delegates, which has the most rules; CPUs get the same graph."""
    graph, path = converted(sam, target, tmp_path)
    inputs, backend = inputs_of(2), get_backend(load_target(target).backend)
    answers, expected = backend.load(path, graph.spec).run(inputs), as_session(graph).run(inputs)
    for name, value in expected.items():
        assert np.abs(answers[name] - value).max() < EQUAL, name
    (report,) = inspect_path(path)
    assert report.largest_rank is not None
    assert len(report.largest_rank.shape or ()) <= 4
    if target == "tflite-gpu":
        assert report.residency is not None
        verdicts = {op.verdict for op in report.residency.ops}
        assert verdicts == {Verdict.RESIDENT}
