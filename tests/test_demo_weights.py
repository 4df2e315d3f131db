"""The shipped demo weights: there without a download, marked as what they are, and they segment."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.train_demo import normalized
from mobilesam_export.backends import reference
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Contract
from mobilesam_export.contract.frame import square
from mobilesam_export.evaluation.dataset import held_out_scenes
from mobilesam_export.evaluation.scores import Candidate, Evaluation, Score, evaluate_images
from mobilesam_export.model import build_sam
from mobilesam_export.target import load_target
from tests.cli_runner import warm

WEIGHTS = resources.files("mobilesam_export.checkpoint")


def test_the_file_is_small_and_has_a_card() -> None:
    with resources.as_file(WEIGHTS / "demo.safetensors") as path:
        assert path.stat().st_size <= 21e6
    assert "Not for" in (WEIGHTS / "demo.md").read_text()


def test_provenance_says_demo() -> None:
    found = load_checkpoint("demo").provenance
    assert found.source == "demo"
    assert found.trained
    assert "generated scenes" in found.license


def test_a_bundle_of_them_says_so_everywhere(onnx_demo_bundle: Path) -> None:
    import onnx

    assert json.loads((onnx_demo_bundle / "manifest.json").read_text())["checkpoint"]["source"] == (
        "demo"
    )
    assert "These are the demo weights" in (onnx_demo_bundle / "README.md").read_text()
    model = onnx.load(onnx_demo_bundle / "encoder.onnx")
    assert "demo" in {item.value for item in model.metadata_props}


def test_verify_finds_them_again(onnx_demo_bundle: Path, tmp_path: Path) -> None:
    assert warm(tmp_path, ["verify", onnx_demo_bundle]).code == 0


def scores(side: int, scenes: int) -> dict[str, float]:
    contract = Contract(side, 6, load_target("onnx").graph)
    sam = build_sam(load_checkpoint("demo").state_dict, side)
    one = Candidate("demo", "", reference.load(sam, contract), 0)
    dataset = held_out_scenes(scenes, square(side))
    evaluation = Evaluation({"demo": Score()})
    for record in evaluate_images([one], {}, dataset, dataset.names):
        evaluation.add(record)
    return evaluation.scores["demo"].means()


def test_a_slice_of_the_table_at_512_is_what_was_measured() -> None:
    """Ten of the 100 scenes; their mean scatters by 0.04 around that of all."""
    measured = json.loads(
        (Path(__file__).parents[1] / "benchmarks/results/demo_quality.json").read_text()
    )["100 scenes at 512"]["candidates"]
    (row,) = measured.values()
    found = scores(512, 10)
    for kind in ("click_best", "click", "clicks", "box"):
        assert found[kind] == pytest.approx(row["mean"][kind], abs=0.12)


def test_the_model_prefers_the_object_to_what_is_around_it() -> None:
    """No figure of a table: inside a box the logits are higher on the object than beside it."""
    dataset = held_out_scenes(2, square(256))
    sam = build_sam(load_checkpoint("demo").state_dict, 256)
    for name in dataset.names:
        sample = dataset.read(name)
        assert sample.masks is not None
        mask = max(sample.masks, key=np.count_nonzero)
        rows, columns = np.nonzero(mask)
        box = torch.tensor([[columns.min(), rows.min(), columns.max(), rows.max()]]).float()
        with torch.inference_mode():
            logits, _ = sam.decode(sam.encode(normalized(sample.image)), box=box)
        low = torch.nn.functional.avg_pool2d(torch.from_numpy(mask)[None].float(), 4)[0] > 0.5
        assert logits[0, 0][low].mean() > logits[0, 0][~low].mean() + 2
