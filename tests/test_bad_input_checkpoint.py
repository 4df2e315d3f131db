"""Checkpoints that cannot be used: named for what they are, in one line, nothing left behind."""

import gzip
import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.cli_runner import ERROR, refused, warm

StateDict = dict[str, torch.Tensor]
FIRST = "image_encoder.patch_embed.seq.0.c.weight"


@dataclass(frozen=True)
class MakesFolder:
    """What a pickle with code in it runs when it is opened."""

    path: Path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.mkdir, (self.path,)


def unreadable(name: str, path: Path, weights: StateDict) -> None:
    """Write the checkpoint of one case to `path`."""
    whole = io.BytesIO()
    files: dict[str, bytes] = {
        "empty": b"",
        "text": b"epoch 1: loss 0.3\n" * 20,
        "web page": b"\n<!DOCTYPE html><html><body>404: Not Found</body></html>",
        "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:6dbb\nsize 40728226\n",
        "json": b'{"metadata": {"total_size": 40}, "weight_map": {}}',
        "gzip": gzip.compress(b"weights"),
        "header only": (2**40).to_bytes(8, "little") + b"{}",
    }
    objects: dict[str, Any] = {
        "list": [torch.zeros(2)],
        "tensor": torch.zeros(2, 2),
        "empty dict": {},
        "numbers": {"epoch": 3, "loss": [0.5, 0.4]},
        "namespace": {"model": weights, "args": pytest.MonkeyPatch()},
    }
    if name in files:
        path.write_bytes(files[name])
    elif name in objects:
        torch.save(objects[name], path)
    elif name.startswith("cut"):
        torch.save(weights, whole)
        path.write_bytes(whole.getvalue()[: 20_000_000 if name == "cut in half" else 100])
    elif name == "safetensors cut":
        save_file(weights, path)
        path.write_bytes(path.read_bytes()[:-1000])
    elif name == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "no checkpoint")
    else:
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


UNREADABLE = {
    "empty": "is empty",
    "text": "neither a PyTorch file nor safetensors",
    "web page": "a web page",
    "git-lfs": "git lfs pull",
    "json": "neither a PyTorch file nor safetensors",
    "gzip": "a gzip archive; unpack it",
    "header only": "neither a PyTorch file nor safetensors, or cut short",
    "list": "holds no state dict of tensors but list",
    "tensor": "holds no state dict of tensors but Tensor",
    "empty dict": "holds no state dict",
    "numbers": "holds no state dict",
    "namespace": "save its state_dict()",
    "cut in half": "cut short (20,000,000 bytes)",
    "cut at the start": "cut short (100 bytes)",
    "safetensors cut": "cut short",
    "zip": "not a PyTorch file",
    "TorchScript": "TorchScript",
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_file_is_named_for_what_it_is(
    name: str, tmp_path: Path, mobilesam: StateDict
) -> None:
    path = tmp_path / "weights.pt"
    unreadable(name, path, mobilesam)
    line = ["checkpoint", "inspect", path]
    refused(tmp_path, line, ERROR, [str(path), UNREADABLE[name]])


@pytest.mark.parametrize("form", ["torch.save", "protocol 2", "protocol 0"])
def test_code_in_a_pickle_is_not_run(form: str, tmp_path: Path) -> None:
    path, evidence = tmp_path / "weights.pt", tmp_path / "evidence"
    content = {"model": MakesFolder(evidence)}
    if form == "torch.save":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(form[-1])))
    refused(tmp_path, ["onnx", "-c", path], ERROR, [str(path)])
    assert not evidence.exists()
    with path.open("rb") as file:  # the trap does work where code is run
        trap = torch.load(file, weights_only=False) if form == "torch.save" else pickle.load(file)
    assert trap
    assert evidence.is_dir()


def different(name: str, weights: StateDict) -> StateDict:
    """The weights of one case: readable, but not what can be exported."""
    first = weights[FIRST]
    replaced: dict[str, StateDict] = {
        "unexpected key": {"image_encoder.extra.weight": torch.zeros(3)},
        "shape": {FIRST: torch.zeros(8, 3, 3, 3)},
        "NaN": {FIRST: torch.full_like(first, float("nan"))},
        "infinity": {FIRST: torch.full_like(first, float("inf"))},
        "int8": {key: value.to(torch.int8) for key, value in weights.items()},
        "float8": {FIRST: first.to(torch.float8_e4m3fn)},
        "packed float4": {FIRST: torch.zeros(32, 3, 3, 2, dtype=torch.uint8)},
        "qint8": {FIRST: torch.quantize_per_tensor(first, 0.1, 0, torch.qint8)},
        "too large": {FIRST: first.double() * 1e300},
        "number": {FIRST: 3.0},  # type: ignore[dict-item]
        "numpy": {FIRST: first.numpy()},  # type: ignore[dict-item]
        "pixels": {"pixel_mean": torch.tensor([0.485, 0.456, 0.406])},
        "LoRA beside": {"w_a_000": torch.zeros(4, 128)},
        "complex": {FIRST: first.to(torch.complex64)},
        "sparse": {FIRST: first.to_sparse()},
        "no values": {key: value.to("meta") for key, value in weights.items()},
    }
    if name == "missing key":
        return {key: value for key, value in weights.items() if key != FIRST}
    return {**weights, **replaced[name]}


DIFFERENT = {
    "missing key": ["1 missing key ", FIRST],
    "unexpected key": ["1 unexpected key ", "image_encoder.extra.weight"],
    "shape": ["(8, 3, 3, 3) instead of (32, 3, 3, 3)", FIRST],
    "NaN": ["NaN", FIRST],
    "infinity": ["infinity", FIRST],
    "int8": ["int8", "before it was quantized"],
    "float8": [f"{FIRST}: float8_e4m3fn", "expected float32, float16"],
    "packed float4": [f"{FIRST}: uint8", "before it was quantized"],
    "qint8": [f"{FIRST}: qint8", "before it was quantized"],
    "too large": ["infinity (in float32)", FIRST],
    "number": [f"{FIRST}: not a tensor but float"],
    "numpy": [f"{FIRST}: not a tensor but an array"],
    "pixels": ["pixel_mean: (0.485, 0.456, 0.406) instead of (123.675, 116.28, 103.53)"],
    "LoRA beside": ["MobileSAM with LoRA", "w_a_000", "merge_and_unload"],
    "complex": ["complex64"],
    "sparse": [FIRST],
    "no values": ["weights.pt"],
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("name", DIFFERENT)
def test_other_weights_are_refused_before_work_is_done(
    name: str, tmp_path: Path, mobilesam: StateDict
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(different(name, mobilesam), path)
    line = ["onnx", "-c", path, "--image-size", 256]
    refused(tmp_path, line, ERROR, [str(path), *DIFFERENT[name]])


@pytest.mark.parametrize("salt", ["x", "-1", "99999999999", "1.5", "²"])
def test_bad_salt(salt: str, tmp_path: Path) -> None:
    line = ["onnx", "-c", f"seeded:{salt}"]
    refused(tmp_path, line, ERROR, [f"seeded:{salt}", "whole number from 0"])


@pytest.mark.parametrize(
    ("path", "phrase"),
    [
        ("missing.pt", "missing.pt does not exist"),
        (".", "is a folder"),
        ("/dev/null", "is not a regular file"),
        ("a" * 300 + ".pt", "too long"),
        ("official.pt/x", "does not exist"),
        ("", "checkpoint"),
    ],
)
def test_checkpoint_that_is_no_file(path: str, phrase: str, tmp_path: Path) -> None:
    (tmp_path / "official.pt").write_bytes(b"")
    refused(tmp_path, ["onnx", "-c", path], ERROR, [phrase])


@pytest.mark.parametrize(
    ("path", "phrase"), [("missing.pt", "does not exist"), (".", "is a folder")]
)
def test_inspecting_what_is_no_file(path: str, phrase: str, tmp_path: Path) -> None:
    refused(tmp_path, ["checkpoint", "inspect", path], ERROR, [phrase])


def test_the_variable_is_named_when_its_file_is_missing(tmp_path: Path) -> None:
    env = {"MOBILESAM_CHECKPOINT": str(tmp_path / "gone.pt")}
    phrases = ["$MOBILESAM_CHECKPOINT", "gone.pt", "does not exist"]
    refused(tmp_path, ["onnx"], ERROR, phrases, env)


def test_inspecting_a_wrapped_checkpoint(tmp_path: Path, mobilesam: StateDict) -> None:
    prefixed = {f"module.{key}": value.half() for key, value in mobilesam.items()}
    torch.save({"epoch": 3, "model": {"state_dict": prefixed}}, tmp_path / "weights.pt")
    result = warm(tmp_path, ["checkpoint", "inspect", "weights.pt"])
    assert (result.code, result.stderr) == (0, "")
    assert "weights.pt: MobileSAM" in result.stdout
    assert "note: took the weights from 'model.state_dict.module'" in result.stdout
    assert "it can be exported" in result.stdout


def test_inspecting_what_cannot_be_exported(tmp_path: Path, mobilesam: StateDict) -> None:
    torch.save({**mobilesam, FIRST: mobilesam[FIRST].to(torch.int8)}, tmp_path / "weights.pt")
    result = warm(tmp_path, ["checkpoint", "inspect", "weights.pt"])
    assert (result.code, result.stderr) == (0, "")
    assert f"retyped: {FIRST}: int8" in result.stdout
    assert "can be exported" not in result.stdout
