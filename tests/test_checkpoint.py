"""Checkpoints: what loads, from which containers, and what it says of itself."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from mobilesam_export import files
from mobilesam_export.checkpoint import identify, load
from mobilesam_export.errors import CheckpointError

StateDict = dict[str, torch.Tensor]


def test_salts_give_other_weights(state_dict: StateDict) -> None:
    other = load.load_checkpoint("seeded:1")
    assert other.provenance.source == "seeded:1"
    assert not torch.equal(
        other.state_dict["image_encoder.neck.0.weight"], state_dict["image_encoder.neck.0.weight"]
    )


def test_seeded_is_salt_0_and_says_that_it_is_not_trained() -> None:
    found = load.load_checkpoint("seeded").provenance
    assert (found.source, found.file_sha256, found.trained) == ("seeded:0", "", False)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"model": weights},
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model": {"state_dict": weights}},
        lambda weights: {f"module.{key}": value for key, value in weights.items()},
        lambda weights: {"model": {f"module.{key}": v for key, v in weights.items()}},
    ],
    ids=["plain", "model", "state_dict", "nested", "DataParallel", "nested DataParallel"],
)
def test_pytorch_files_are_unwrapped(tmp_path: Path, state_dict: StateDict, wrap) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    path = tmp_path / "weights.pt"
    torch.save(wrap(state_dict), path)
    found = load.load_checkpoint(str(path))
    assert found.provenance.weights_sha256 == load.weights_sha256(state_dict)
    assert found.provenance.source == "weights.pt"
    assert found.provenance.file_sha256 == files.file_sha256(path)


def test_safetensors_and_pytorch_files_are_the_same_weights(
    tmp_path: Path, state_dict: StateDict
) -> None:
    safetensors.torch.save_file(state_dict, tmp_path / "w.safetensors")
    found = load.load_checkpoint(str(tmp_path / "w.safetensors"))
    assert found.provenance.weights_sha256 == load.weights_sha256(state_dict)


def test_half_precision_is_loaded_as_float32(tmp_path: Path, state_dict: StateDict) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in state_dict.items()}
    torch.save(half, tmp_path / "w.pth")
    loaded = load.load_checkpoint(str(tmp_path / "w.pth")).state_dict
    assert {v.dtype for v in loaded.values()} == {torch.float32, torch.int64}


def test_the_environment_replaces_the_download(
    tmp_path: Path, state_dict: StateDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state_dict, tmp_path / "mine.pt")
    monkeypatch.setenv("MOBILESAM_CHECKPOINT", str(tmp_path / "mine.pt"))
    assert load.load_checkpoint("official").provenance.source == "mine.pt"


def test_a_difference_names_the_first_key_of_each_kind(state_dict: StateDict) -> None:
    changed = dict(state_dict)
    del changed["mask_decoder.iou_token.weight"]
    changed["extra"] = torch.zeros(1)
    changed["image_encoder.head.bias"] = torch.zeros(7)
    changed["image_encoder.norm_head.bias"] = torch.full((320,), float("nan"))
    difference = identify.compare_state_dict(changed)
    assert difference.missing == ("mask_decoder.iou_token.weight",)
    assert difference.unexpected == ("extra",)
    assert difference.reshaped == ("image_encoder.head.bias: (7,) instead of (1000,)",)
    assert difference.not_finite == ("image_encoder.norm_head.bias",)
    assert "1 missing key (first: mask_decoder.iou_token.weight)" in difference.summary()


@pytest.mark.parametrize(
    ("key", "shape", "model"),
    [
        ("image_encoder.pos_embed", (1, 64, 64, 768), "SAM ViT-B"),
        ("image_encoder.pos_embed", (1, 64, 64, 1024), "SAM ViT-L"),
        ("image_encoder.pos_embed", (1, 64, 64, 1280), "SAM ViT-H"),
        ("image_encoder.features.0.0.c.weight", (24, 3, 3, 3), "EdgeSAM"),
        ("image_encoder.features.0.0.c.weight", (40, 3, 3, 3), "RepViT-SAM"),
        ("image_encoder.trunk.pos_embed", (1,), "SAM 2"),
        ("vision_encoder.pos_embed", (1,), "transformers"),
        ("image_encoder.layers.1.blocks.0.attn.attention_biases", (4, 49), "TinyViT"),
        ("something", (1,), "no model known"),
    ],
)
def test_other_models_are_recognized(key: str, shape: tuple[int, ...], model: str) -> None:
    assert model in identify.recognize({key: torch.zeros(shape)})


def test_mobilesam_is_recognized(state_dict: StateDict) -> None:
    assert identify.recognize(state_dict) == "MobileSAM"


def test_weights_hash_depends_on_names_and_values_and_not_on_order(state_dict: StateDict) -> None:
    part = dict(list(state_dict.items())[:3])
    expected = load.weights_sha256(part)
    assert load.weights_sha256(dict(reversed(part.items()))) == expected
    name = next(iter(part))
    assert load.weights_sha256({**part, name: part[name] + 1}) != expected


def test_inspect_reports_what_a_file_is(tmp_path: Path, state_dict: StateDict) -> None:
    torch.save(state_dict, tmp_path / "w.pt")
    found = load.inspect_checkpoint(tmp_path / "w.pt")
    assert (found.model, found.entries, found.official) == ("MobileSAM", 439, False)
    assert found.dtypes == ("float32", "int64")
    assert not found.difference


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    torch.save({"weights": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match="was not run"):
        load.load_checkpoint(str(tmp_path / "bomb.pt"))
    assert not (tmp_path / "exploded").exists()
