"""Pickles: what may lie beside weights, what stays refused, and that nothing in them is run."""

import argparse
import collections
import datetime
import io
import pickle
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from mobilesam_export.checkpoint.state_dict import read_values
from mobilesam_export.errors import CheckpointError

WEIGHTS = {"model": {"image_encoder.a.weight": torch.arange(6.0).reshape(2, 3)}}
NAME = "model.image_encoder.a.weight"

BESIDE: dict[str, Any] = {
    "numpy scalar": np.float64(0.25),
    "numpy integer": np.int64(7),
    "numpy truth": np.bool_(True),
    "numpy array": np.linspace(0, 1, 5),
    "numpy strings": np.array(["a", "bc"]),
    "numpy type": np.dtype("float32"),
    "Namespace": argparse.Namespace(lr=0.1, out=Path("runs/1"), mean=np.float32(3)),
    "SimpleNamespace": types.SimpleNamespace(depth=2),
    "path": Path("data"),
    "date": datetime.datetime(2026, 1, 2, 3, 4),
    "duration": datetime.timedelta(hours=1),
    "plain": [1, (2.5, None), "x", {"y": {3}}, collections.OrderedDict(z=True)],
    "defaultdict": collections.defaultdict(list, {"loss": [0.5]}),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize("name", BESIDE)
def test_what_training_loops_save_beside_weights_is_skipped(
    name: str, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "w.pt"
    content = {**WEIGHTS, "beside": BESIDE[name]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_values(path)[NAME], WEIGHTS["model"]["image_encoder.a.weight"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("yacs.config.CfgNode", dict),
        ("lightning.fabric.utilities.data.AttributeDict", dict),
        ("omegaconf.dictconfig.DictConfig", object),
    ],
)
def test_settings_of_known_trainers_are_skipped(
    name: str, base: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, kind = name.rpartition(".")
    cls = type(kind, (base,), {"__module__": module})
    for end in (*(i for i, letter in enumerate(module) if letter == "."), None):
        monkeypatch.setitem(sys.modules, module[:end], types.ModuleType(module[:end]))
    monkeypatch.setattr(sys.modules[module], kind, cls, raising=False)
    settings = cls(model=cls(name="tiny_vit_5m")) if base is dict else cls()
    vars(settings).update(frozen=False, element_type=dict)
    torch.save({**WEIGHTS, "config": settings}, tmp_path / "w.pt")
    assert NAME in read_values(tmp_path / "w.pt")


def test_weights_in_a_defaultdict_are_read(tmp_path: Path) -> None:
    torch.save({"model": collections.defaultdict(None, WEIGHTS["model"])}, tmp_path / "w.pt")
    assert NAME in read_values(tmp_path / "w.pt")


class WithItems:
    """Unpickles as an OrderedDict with an attribute in the place of a method."""

    def __reduce__(self) -> tuple[Any, ...]:
        items = WEIGHTS["model"].items()
        return collections.OrderedDict, (), {"items": 5}, None, iter(items)


def test_an_attribute_of_a_dictionary_hides_none_of_its_methods(tmp_path: Path) -> None:
    torch.save({"model": WithItems()}, tmp_path / "w.pt")
    assert NAME in read_values(tmp_path / "w.pt")


def test_weights_as_numpy_arrays_are_named(tmp_path: Path) -> None:
    torch.save({"model": {"image_encoder.a.weight": np.zeros(3)}}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"no state dict of tensors but NumPy arrays"):
        read_values(tmp_path / "w.pt")


def test_names_of_numpy_1_are_skipped_as_those_of_numpy_2(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({**WEIGHTS, "loss": np.float64(1)}, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert b"numpy.core" in old
    path.write_bytes(old)
    assert NAME in read_values(path)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


HIDING: dict[str, Callable[[Any], Any]] = {
    "beside": lambda trap: {**WEIGHTS, "x": trap},
    "in a Namespace": lambda trap: {**WEIGHTS, "args": argparse.Namespace(x=trap)},
    "in a numpy array": lambda trap: {**WEIGHTS, "x": np.array([trap], dtype=object)},
    "as a weight": lambda trap: {"model": {"image_encoder.a.weight": trap}},
    "as a name": lambda trap: {**WEIGHTS, ("x", trap): 1},
}


@pytest.mark.parametrize("place", HIDING)
def test_code_is_not_run_wherever_it_hides(place: str, tmp_path: Path) -> None:
    path, evidence = tmp_path / "w.pt", tmp_path / "evidence"
    torch.save(HIDING[place](Trap(evidence)), path)
    with pytest.raises(CheckpointError, match="was not run"):
        read_values(path)
    assert not evidence.exists()
    torch.load(path, weights_only=False)  # the trap does work where code is run
    assert evidence.exists()


def test_the_class_that_was_refused_is_named(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read_values(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("ultralytics.nn.tasks", "an ultralytics model .FastSAM.* not MobileSAM"),
        ("torchao.dtypes", "quantized by torchao"),
    ],
)
def test_pickles_of_known_projects_are_called_by_name(
    module: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "FastSAM.pt"
    kind = type("SegmentationModel", (), {"__module__": module})
    for end in (*(i for i, letter in enumerate(module) if letter == "."), None):
        monkeypatch.setitem(sys.modules, module[:end], types.ModuleType(module[:end]))
    monkeypatch.setattr(sys.modules[module], "SegmentationModel", kind, raising=False)
    torch.save({"epoch": -1, "model": kind()}, path)
    with pytest.raises(CheckpointError, match=message):
        read_values(path)


@pytest.mark.parametrize("protocol", [4, 5])
def test_newer_pickle_protocols_are_named(protocol: int, tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "w.pt", pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=f"pickle protocol {protocol}.*pickle_protocol"):
        read_values(tmp_path / "w.pt")


def test_a_dictionary_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {"w": torch.zeros(2)}
    content["self"] = content
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="nested too deeply"):
        read_values(tmp_path / "w.pt")


def test_a_small_file_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    content: Any = {"w": torch.zeros(2)}
    for _ in range(28):
        content = {"a": content, "b": content}
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="nested too deeply"):
        read_values(tmp_path / "w.pt")


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """A copy with bytes cut off, changed, missing or inserted."""
    content = bytearray(whole[: draw.randrange(len(whole))] if draw.random() < 0.3 else whole)
    for _ in range(draw.choice((0, 1, 1, 2, 5, 20))):
        if content:
            place, change = draw.randrange(len(content)), draw.random()
            if change < 0.6:
                content[place] = draw.randrange(256)
            elif change < 0.8:
                del content[place : place + draw.randrange(1, 9)]
            else:
                content[place:place] = draw.randbytes(draw.randrange(1, 5))
    return bytes(content)


def whole_file(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "safetensors":
        return safetensors.torch.save({"a": torch.zeros(2, 3), "b": torch.zeros(4).half()})
    content = {**WEIGHTS, "args": argparse.Namespace(lr=0.1), "loss": np.float64(1)}
    torch.save(content, stream, _use_new_zipfile_serialization=kind == "zip")
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_damaged_file_is_one_clear_error_or_still_readable(kind: str, tmp_path: Path) -> None:
    draw, whole, path = random.Random(kind), whole_file(kind), tmp_path / "w.pt"  # noqa: S311
    messages = []
    for _ in range(300):
        path.write_bytes(damaged(whole, draw))
        try:
            read_values(path)
        except CheckpointError as exc:
            messages.append(str(exc))
    assert all(str(path) in message for message in messages)
    assert len(messages) > 150


def test_a_plain_pickle_is_refused_without_running_it(tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(WEIGHTS, protocol=2))
    with pytest.raises(CheckpointError, match=str(path)):
        read_values(path)


def test_a_safetensors_file_that_begins_like_a_web_page_is_none(tmp_path: Path) -> None:
    """Its first byte is the length of its header, here 60, which is "<"."""
    (tmp_path / "w.safetensors").write_bytes(bytes([60, 0, 0, 0, 0, 0, 0, 0]) + b"{" * 60)
    with pytest.raises(CheckpointError, match="neither a PyTorch file nor safetensors"):
        read_values(tmp_path / "w.safetensors")
