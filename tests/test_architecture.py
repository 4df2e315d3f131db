"""Students: encoders with other widths and depths, by name, by TOML and from a file's metadata."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mobilesam_export.checkpoint.load import inspect_checkpoint, load_checkpoint
from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.errors import CheckpointError
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.model.architecture import (
    MOBILESAM,
    Architecture,
    architecture_of,
    load_architecture,
    parse_architecture,
    student_names,
)

TINY = load_architecture("tiny")


@pytest.fixture(scope="module")
def tiny() -> dict[str, torch.Tensor]:
    return seeded_state_dict(0, TINY)


@pytest.fixture
def student(tmp_path: Path, tiny: dict[str, torch.Tensor]) -> Path:
    """A file of a student, as `distill` writes it."""
    path = tmp_path / "student.safetensors"
    save_file(tiny, path, TINY.metadata())
    return path


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    heads = draw(st.tuples(*[st.integers(1, 3)] * 3))
    widths = [draw(st.sampled_from([2, 4, 6])), *(8 * draw(st.integers(1, 2)) * h for h in heads)]
    return Architecture(
        tuple(widths),
        draw(st.tuples(*[st.integers(1, 3)] * 4)),
        (0, *heads),
        (0, *draw(st.tuples(*[st.integers(1, 8)] * 3))),
    )


@settings(max_examples=5)
@given(architecture=architectures())
def test_the_shapes_of_weights_say_what_they_are(architecture: Architecture) -> None:
    assert architecture_of(Sam(256, architecture).state_dict()) == architecture


def test_without_numbers_it_is_mobilesam() -> None:
    assert parse_architecture({}) == MOBILESAM == architecture_of(seeded_state_dict(0))


def test_a_student_gives_an_embedding_that_sam_s_decoder_takes(
    tiny: dict[str, torch.Tensor],
) -> None:
    sam = build_sam(tiny, 256)
    embedding = sam.encode(torch.zeros(1, 3, 256, 256))
    assert embedding.shape == (1, 256, 16, 16)
    logits, _ = sam.decode(embedding, torch.zeros(1, 1, 2), torch.ones(1, 1))
    assert logits.shape == (1, 4, 64, 64)


def test_half_is_half_as_wide() -> None:
    half = load_architecture("half")
    assert half.depths == MOBILESAM.depths
    for narrow, wide in zip(half.widths, MOBILESAM.widths, strict=True):
        assert narrow == pytest.approx(wide / 2, rel=0.2)


def test_a_file_of_a_student_is_recognised(student: Path, tiny: dict[str, torch.Tensor]) -> None:
    loaded = load_checkpoint(str(student))
    assert loaded.provenance.architecture == f"MobileSAM student, {TINY}"
    assert loaded.provenance.describe()["architecture"] == loaded.provenance.architecture
    assert torch.equal(
        loaded.state_dict["image_encoder.neck.2.weight"], tiny["image_encoder.neck.2.weight"]
    )
    found = inspect_checkpoint(student)
    assert found.model == f"MobileSAM student, {TINY}"
    assert not found.difference


@pytest.mark.parametrize("first", [b"P", b"\x80"])
def test_a_header_whose_length_begins_like_a_pickle_is_one_of_safetensors(
    tmp_path: Path, tiny: dict[str, torch.Tensor], first: bytes
) -> None:
    path = tmp_path / "student.safetensors"
    for spaces in range(0, 256, 8):  # a header is padded to whole words
        save_file(tiny, path, {**TINY.metadata(), "note": " " * spaces})
        if path.read_bytes()[:1] == first:
            break
    else:
        pytest.fail("no header has this length")
    assert load_checkpoint(str(path)).provenance.architecture == f"MobileSAM student, {TINY}"


def test_an_incomplete_student_is_no_smaller_one(
    tmp_path: Path, tiny: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "student.safetensors"
    larger = Architecture(TINY.widths, (1, 1, 2, 1), TINY.heads, TINY.windows)
    save_file(tiny, path, larger.metadata())
    with pytest.raises(CheckpointError, match=r"missing keys .*layers\.2\.blocks\.1"):
        load_checkpoint(str(path))


def test_without_metadata_a_student_is_refused(
    tmp_path: Path, tiny: dict[str, torch.Tensor]
) -> None:
    """Its shapes could be those of a damaged file."""
    save_file(tiny, tmp_path / "student.safetensors")
    with pytest.raises(CheckpointError, match="is not MobileSAM"):
        load_checkpoint(str(tmp_path / "student.safetensors"))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "has widths, depths, heads, windows, not list"),
        (json.dumps({"layers": [1, 2, 3, 4]}), "not layers"),
        (json.dumps(asdict(TINY) | {"depths": [1, 1, 1]}), "depths .* 4 whole numbers"),
    ],
)
def test_metadata_that_is_no_architecture_is_named(
    tmp_path: Path, metadata: str, message: str
) -> None:
    path = tmp_path / "student.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"architecture": metadata})
    with pytest.raises(CheckpointError, match=f"student.safetensors.*metadata.*{message}"):
        load_checkpoint(str(path))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"widths": [64, 128, 160]}, "widths of an image encoder are 4 whole numbers"),
        ({"widths": [63, 128, 160, 320]}, "must be even, not 63"),
        ({"widths": [64, 130, 160, 320]}, "4 heads do not divide a width of 130"),
        ({"depths": [2, 0, 6, 2]}, "depths of .* from 1 to 64"),
        ({"depths": 2}, "depths of an image encoder are 4 numbers, not 2"),
        ({"depths": [2, True, 6, 2]}, "depths"),
        ({"windows": [7, 7, 14, 7]}, "0 for the first stage"),
        ({"heads": [0, 4, 0, 10]}, "over 0 for the others"),
        ({"width": [64, 128, 160, 320]}, "has widths, depths, heads, windows, not width"),
    ],
)
def test_numbers_that_are_no_encoder_are_refused(numbers: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse_architecture(numbers)


def test_a_toml_is_a_student(tmp_path: Path) -> None:
    path = tmp_path / "narrow.toml"
    path.write_text("widths = [32, 64, 96, 160]\nheads = [0, 2, 3, 5]\n")
    narrow = load_architecture(str(path))
    assert (narrow.widths, narrow.depths) == ((32, 64, 96, 160), MOBILESAM.depths)


@pytest.mark.parametrize("text", ["widths = [", "widths = 3\n", "depth = [1, 1, 1, 1]\n"])
def test_a_toml_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "narrow.toml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"narrow\.toml: "):
        load_architecture(str(path))


def test_an_unknown_student_is_answered_with_those_there_are() -> None:
    with pytest.raises(CheckpointError, match=r"no student 'huge' .*half, tiny or the path of"):
        load_architecture("huge")


@pytest.mark.parametrize("name", student_names())
def test_seeded_weights_of_a_student_have_its_name(name: str) -> None:
    sources = [load_checkpoint(f"seeded:{name}{salt}").provenance.source for salt in ("", ":0")]
    assert sources == [f"seeded:{name}:0"] * 2


def test_salts_are_as_before() -> None:
    assert load_checkpoint("seeded:tiny:7").provenance.source == "seeded:tiny:7"
    assert load_checkpoint("seeded:7").provenance.architecture == "MobileSAM"
    with pytest.raises(CheckpointError, match="the salt of 'seeded:tiny:x'"):
        load_checkpoint("seeded:tiny:x")
