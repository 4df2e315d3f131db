"""Checkpoints: what loads, from which containers, and what it says of itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mobilesam_export import files
from mobilesam_export.checkpoint import identify, load
from mobilesam_export.model import build_sam

StateDict = dict[str, torch.Tensor]


def test_salts_give_other_weights(mobilesam: StateDict) -> None:
    other = load.load_checkpoint("seeded:1")
    assert other.provenance.source == "seeded:1"
    assert not torch.equal(
        other.state_dict["image_encoder.neck.0.weight"], mobilesam["image_encoder.neck.0.weight"]
    )


def test_seeded_is_salt_0_and_says_that_it_is_not_trained() -> None:
    found = load.load_checkpoint("seeded").provenance
    assert (found.source, found.file_sha256, found.trained) == ("seeded:0", "", False)


def test_a_pytorch_file_is_loaded_with_its_provenance(tmp_path: Path, mobilesam: StateDict) -> None:
    path = tmp_path / "weights.pt"
    torch.save(mobilesam, path)
    found = load.load_checkpoint(str(path))
    assert found.provenance.weights_sha256 == load.weights_sha256(mobilesam)
    assert found.provenance.source == "weights.pt"
    assert found.provenance.file_sha256 == files.file_sha256(path)
    assert (found.provenance.entry, found.notes) == ("", ())
    assert "entry" not in found.provenance.describe()


def test_safetensors_and_pytorch_files_are_the_same_weights(
    tmp_path: Path, mobilesam: StateDict
) -> None:
    safetensors.torch.save_file(mobilesam, tmp_path / "w.safetensors")
    found = load.load_checkpoint(str(tmp_path / "w.safetensors"))
    assert found.provenance.weights_sha256 == load.weights_sha256(mobilesam)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_floating_point_type_is_loaded_as_float32(
    dtype: torch.dtype, tmp_path: Path, mobilesam: StateDict
) -> None:
    other = {k: v.to(dtype) if v.is_floating_point() else v for k, v in mobilesam.items()}
    torch.save(other, tmp_path / "w.pth")
    loaded = load.load_checkpoint(str(tmp_path / "w.pth"))
    assert {v.dtype for v in loaded.state_dict.values()} == {torch.float32, torch.int64}
    expected = {k: v.float() for k, v in other.items()}
    assert loaded.provenance.weights_sha256 == load.weights_sha256(expected)


UNUSED: dict[str, Callable[[StateDict], StateDict]] = {
    "no classifier": lambda w: {k: v for k, v in w.items() if "head." not in k or "mask" in k},
    "another classifier": lambda w: {
        **w,
        "image_encoder.head.weight": torch.zeros(7, 320),
        "image_encoder.norm_head.bias": torch.full((320,), float("nan")),
    },
    "no counters": lambda w: {k: v for k, v in w.items() if "num_batches_tracked" not in k},
    "caches of attention": lambda w: {
        **w,
        "image_encoder.layers.1.blocks.0.attn.ab": torch.zeros(4, 49, 49),
        "image_encoder.layers.1.blocks.0.attn.attention_bias_idxs": torch.zeros(49, 49).long(),
    },
    "a profiler's counts": lambda w: {
        **w,
        "image_encoder.total_ops": torch.zeros(1, dtype=torch.float64),
        "mask_decoder.transformer.total_params": torch.zeros(1, dtype=torch.float64),
    },
    "SAM's pixels": lambda w: {
        **w,
        "pixel_mean": torch.tensor([123.675, 116.28, 103.53]).reshape(3, 1, 1),
        "pixel_std": torch.tensor([58.395, 57.12, 57.375]).half(),
    },
    "numbers beside": lambda w: {**w, "epoch": 3, "loss": torch.tensor(0.5)},  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", UNUSED)
def test_what_inference_does_not_use_is_neither_required_nor_forbidden(
    name: str, tmp_path: Path, mobilesam: StateDict
) -> None:
    torch.save(UNUSED[name](mobilesam), tmp_path / "w.pt")
    loaded = load.load_checkpoint(str(tmp_path / "w.pt"))
    assert loaded.provenance.weights_sha256 == load.weights_sha256(mobilesam)
    assert loaded.notes == ()
    build_sam(loaded.state_dict, 256)  # takes nothing but all 439 entries


def test_parameters_of_a_wrapper_around_the_model_are_left_out_and_named(
    tmp_path: Path, mobilesam: StateDict
) -> None:
    torch.save({**mobilesam, "classes.weight": torch.zeros(5, 256)}, tmp_path / "w.pt")
    notes = load.load_checkpoint(str(tmp_path / "w.pt")).notes
    assert notes == ("w.pt: left out 1 entry that is no part of MobileSAM (first: classes.weight)",)


def test_pixels_are_compared_as_exactly_as_they_were_saved(mobilesam: StateDict) -> None:
    right = torch.tensor([123.675, 116.28, 103.53])
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert not identify.compare_state_dict({**mobilesam, "pixel_mean": right.to(dtype)})
    whole = identify.compare_state_dict({**mobilesam, "pixel_std": right.long()})
    assert whole.pixels == ("pixel_std: (123, 116, 103) instead of (58.395, 57.12, 57.375)",)
    swapped = identify.compare_state_dict({**mobilesam, "pixel_mean": right.flip(0)})
    assert swapped.pixels == (
        "pixel_mean: (103.53, 116.28, 123.675) instead of (123.675, 116.28, 103.53)",
    )


def test_the_environment_replaces_the_download(
    tmp_path: Path, mobilesam: StateDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(mobilesam, tmp_path / "mine.pt")
    monkeypatch.setenv("MOBILESAM_CHECKPOINT", str(tmp_path / "mine.pt"))
    assert load.load_checkpoint("official").provenance.source == "mine.pt"


def test_a_difference_names_the_first_key_of_each_kind(mobilesam: StateDict) -> None:
    changed = dict(mobilesam)
    del changed["mask_decoder.iou_token.weight"]
    changed["mask_decoder.extra"] = torch.zeros(1)
    changed["image_encoder.neck.1.bias"] = torch.zeros(7)
    changed["image_encoder.neck.3.bias"] = torch.full((256,), float("nan"))
    changed["prompt_encoder.no_mask_embed.weight"] = torch.zeros(1, 256, dtype=torch.int8)
    difference = identify.compare_state_dict(changed)
    assert difference.missing == ("mask_decoder.iou_token.weight",)
    assert difference.unexpected == ("mask_decoder.extra",)
    assert difference.reshaped == ("image_encoder.neck.1.bias: (7,) instead of (256,)",)
    assert difference.retyped == ("prompt_encoder.no_mask_embed.weight: int8",)
    assert difference.not_finite == ("image_encoder.neck.3.bias",)
    assert "1 missing key (first: mask_decoder.iou_token.weight)" in difference.summary()


def test_weights_hash_depends_on_names_and_values_and_not_on_order(mobilesam: StateDict) -> None:
    part = dict(list(mobilesam.items())[:3])
    expected = load.weights_sha256(part)
    assert load.weights_sha256(dict(reversed(part.items()))) == expected
    name = next(iter(part))
    assert load.weights_sha256({**part, name: part[name] + 1}) != expected


def test_weights_hash_is_of_what_inference_uses(mobilesam: StateDict) -> None:
    head = mobilesam["image_encoder.head.bias"]
    other = {**mobilesam, "image_encoder.head.bias": head + 1}
    assert load.weights_sha256(other) == load.weights_sha256(mobilesam)


def test_inspect_reports_what_a_file_is(tmp_path: Path, mobilesam: StateDict) -> None:
    torch.save(mobilesam, tmp_path / "w.pt")
    found = load.inspect_checkpoint(tmp_path / "w.pt")
    assert (found.model, found.entries, found.official) == ("MobileSAM", 439, False)
    assert (found.entry, found.sets, found.notes) == ("", (".",), ())
    assert found.dtypes == ("float32", "int64")
    assert not found.difference
