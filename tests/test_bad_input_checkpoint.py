"""Checkpoints that cannot be used: named for what they are, in one line, nothing left behind."""

import collections
import http.server
import io
import pickle
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mobilesam_export.checkpoint.load import load_checkpoint, weights_sha256
from tests.cli_runner import ERROR, refused, refused_cold, warm

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
        "header only": (2**40).to_bytes(8, "little") + b"{}",
    }
    objects: dict[str, Any] = {
        "list": [torch.zeros(2)],
        "tensor": torch.zeros(2, 2),
        "empty dict": {},
        "number": {**weights, FIRST: 3.0},
        "wrapped number": {"model": {**weights, "epoch": 5}},
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
    "header only": "neither a PyTorch file nor safetensors, or cut short",
    "list": "holds no state dict: list",
    "tensor": "holds no state dict: Tensor",
    "empty dict": "holds no state dict",
    "number": f"'{FIRST}' is not a tensor",
    "wrapped number": "'epoch' is not a tensor",
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
    name: str, tmp_path: Path, state_dict: StateDict
) -> None:
    path = tmp_path / "weights.pt"
    unreadable(name, path, state_dict)
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
        "complex": {FIRST: first.to(torch.complex64)},
        "sparse": {FIRST: first.to_sparse()},
        "no values": {key: value.to("meta") for key, value in weights.items()},
    }
    if name == "missing key":
        return {key: value for key, value in weights.items() if key != FIRST}
    if name == "other prefix":
        return {f"sam.{key}": value for key, value in weights.items()}
    return {**weights, **replaced[name]}


DIFFERENT = {
    "missing key": ["1 missing key ", FIRST],
    "unexpected key": ["1 unexpected key ", "image_encoder.extra.weight"],
    "shape": ["(8, 3, 3, 3) instead of (32, 3, 3, 3)", FIRST],
    "NaN": ["NaN", FIRST],
    "infinity": ["infinity", FIRST],
    "int8": ["int8"],
    "complex": ["complex64"],
    "sparse": [FIRST],
    "no values": ["weights.pt"],
    "other prefix": ["439 missing keys", "439 unexpected keys"],
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_other_weights_are_refused_before_work_is_done(
    name: str, tmp_path: Path, state_dict: StateDict
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(different(name, state_dict), path)
    line = ["onnx", "-c", path, "--image-size", 256]
    refused(tmp_path, line, ERROR, [str(path), *DIFFERENT[name]])


# Names and shapes that each project's published checkpoint has, far fewer than it has.
VIT = "image_encoder.pos_embed"
REPVIT = "image_encoder.features.0.0.c.weight"
RELATIVES: dict[str, dict[str, tuple[int, ...]]] = {
    "EdgeSAM": {REPVIT: (24, 3, 3, 3), "image_encoder.fuse_stage2.weight": (256, 192, 1, 1)},
    "RepViT-SAM": {REPVIT: (32, 3, 3, 3)},
    "SAM ViT-B": {VIT: (1, 64, 64, 768), "image_encoder.blocks.0.norm1.weight": (768,)},
    "SAM ViT-L": {VIT: (1, 64, 64, 1024), "image_encoder.blocks.0.norm1.weight": (1024,)},
    "SAM ViT-H": {VIT: (1, 64, 64, 1280), "image_encoder.blocks.0.norm1.weight": (1280,)},
    "SAM 2": {"image_encoder.trunk.pos_embed": (1, 96, 7, 7)},
}


@pytest.mark.parametrize("model", RELATIVES)
def test_another_model_is_called_by_its_name(model: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({name: torch.zeros(shape) for name, shape in RELATIVES[model].items()}, path)
    line = ["onnx", "-c", path]
    refused(tmp_path, line, ERROR, [f"{path} is not MobileSAM but {model}: "])


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
    refused_cold(tmp_path, ["checkpoint", "inspect", path], ERROR, [phrase])


def test_the_variable_is_named_when_its_file_is_missing(tmp_path: Path) -> None:
    env = {"MOBILESAM_CHECKPOINT": str(tmp_path / "gone.pt")}
    phrases = ["$MOBILESAM_CHECKPOINT", "gone.pt", "does not exist"]
    refused(tmp_path, ["onnx"], ERROR, phrases, env)


# Variants that people have lying about: all are MobileSAM.


def variant(name: str, weights: StateDict) -> Any:
    """The same weights as other tools save them."""
    prefixed = {f"module.{key}": value for key, value in weights.items()}
    forms: dict[str, Any] = {
        "DataParallel": prefixed,
        "nested": {"epoch": 3, "model": {"state_dict": prefixed}},
        "ordered": collections.OrderedDict(weights),
        "half": {key: v.half() if v.is_floating_point() else v for key, v in weights.items()},
        "parameters": {
            key: torch.nn.Parameter(v) if v.is_floating_point() else v for key, v in weights.items()
        },
    }
    return forms[name]


@pytest.mark.parametrize("name", ["nested", "half"])
def test_inspecting_a_variant(name: str, tmp_path: Path, state_dict: StateDict) -> None:
    torch.save(variant(name, state_dict), tmp_path / "weights.pt")
    result = warm(tmp_path, ["checkpoint", "inspect", "weights.pt"])
    assert (result.code, result.stderr) == (0, "")
    assert "weights.pt: MobileSAM" in result.stdout
    assert "it can be exported" in result.stdout


@pytest.mark.parametrize("name", ["DataParallel", "nested", "ordered", "half", "parameters"])
def test_loading_a_variant(name: str, tmp_path: Path, state_dict: StateDict) -> None:
    torch.save(variant(name, state_dict), tmp_path / "weights.pt")
    checkpoint = load_checkpoint(str(tmp_path / "weights.pt"))
    expected = state_dict
    if name == "half":
        expected = {
            k: v.half().float() if v.is_floating_point() else v for k, v in expected.items()
        }
    assert checkpoint.provenance.weights_sha256 == weights_sha256(expected)


# The download. What is cached must be the pinned file or nothing.


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as the path says: /wrong, /missing, /cut or /long."""

    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/missing" else 200)
        body = b"x" * (1_000_000 if self.path == "/long" else 5000)
        self.send_header("Content-Length", str(len(body) * (2 if self.path == "/cut" else 1)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def cached(folder: Path) -> list[str]:
    """Files in the cache."""
    return [path.name for path in (folder / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("path", "phrase"),
    [("/wrong", "SHA-256"), ("/missing", "HTTP 404"), ("/cut", "could not download")],
)
def test_failed_download_leaves_nothing(
    path: str, phrase: str, server: str, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    env = {"MOBILESAM_CHECKPOINT_URL": server + path}
    phrases = [phrase, server + path, "set $MOBILESAM_CHECKPOINT"]
    refused(tmp_path, ["checkpoint", "fetch"], ERROR, phrases, env)
    assert cached(tmp_path) == []


def test_disk_full_during_the_download(server: str, tmp_path: Path) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    env = {"MOBILESAM_CHECKPOINT_URL": f"{server}/long"}
    phrases = ["cannot write", "cache", "File too large"]
    refused(tmp_path, ["checkpoint", "fetch"], ERROR, phrases, env, file_limit=100_000)
    assert cached(tmp_path) == []


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.mark.parametrize("arguments", [["onnx"], ["checkpoint", "fetch"]])
def test_no_network(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    url = f"http://127.0.0.1:{closed_port()}/mobile_sam.pt"
    phrases = [f"could not download {url}", "set $MOBILESAM_CHECKPOINT"]
    env = {"MOBILESAM_CHECKPOINT_URL": url}
    refused(tmp_path, arguments, ERROR, phrases, env)
    assert cached(tmp_path) == []


def test_address_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    env = {"MOBILESAM_CHECKPOINT_URL": "mirror"}
    refused(tmp_path, ["checkpoint", "fetch"], ERROR, ["download mirror"], env)


def test_damaged_cached_file_is_never_used(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "mobilesam-export"
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt").write_bytes(b"half a file")
    env = {"MOBILESAM_CHECKPOINT_URL": f"{server}/cut"}
    refused(tmp_path, ["onnx"], ERROR, ["could not download"], env)


def test_cache_that_cannot_be_made(server: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    env = {"MOBILESAM_CHECKPOINT_URL": f"{server}/wrong"}
    phrases = ["cannot write to", "mobilesam-export", "set $MOBILESAM_CHECKPOINT"]
    refused(tmp_path, ["checkpoint", "fetch"], ERROR, phrases, env)
