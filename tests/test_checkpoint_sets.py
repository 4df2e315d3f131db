"""Where weights lie in a file: any wrapper and prefix, one set, several, and which is meant."""

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilesam_export.checkpoint.load import load_checkpoint, split_source, weights_sha256
from mobilesam_export.checkpoint.weight_sets import WRAPPERS, find_sets, used_entries
from mobilesam_export.errors import CheckpointError
from mobilesam_export.model import expected_entries
from tests.cli_runner import ERROR, refused, warm
from tests.fault_points import reuse_files

StateDict = dict[str, torch.Tensor]
KEYS = ("net", "ema", "module", "params", "state_dict", "model", "model_state_dict", "weights")
PREFIXES = ("_orig_mod", "module", "model", "sam", "student", "base_model.model", "0")
NOISE: dict[str, Any] = {
    "epoch": 3,
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 0.1}]},
    "n_averaged": torch.tensor(12),
    "best": None,
    "history": [{"loss": 0.1}, {"loss": torch.tensor(0.05)}],
}


def prefixed(prefix: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def wrapped_part(module: str, wrapper: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    """As if only one module of the model had been compiled or parallelized."""
    return {name.replace(f"{module}.", f"{module}.{wrapper}.", 1): v for name, v in weights.items()}


@st.composite
def wrappings(draw: st.DrawFn) -> tuple[list[str], list[str], list[tuple[str, str]], list[str]]:
    """Keys of dictionaries, prefixes of names, wrappers of modules, and what lies beside."""
    parts = st.tuples(st.sampled_from(("image_encoder", "mask_decoder")), st.sampled_from(WRAPPERS))
    return (
        draw(st.lists(st.sampled_from(KEYS), max_size=3)),
        draw(st.lists(st.sampled_from(PREFIXES), max_size=3)),
        draw(st.lists(parts, max_size=2)),
        draw(st.lists(st.sampled_from(sorted(NOISE)), max_size=3, unique=True)),
    )


def wrap(
    weights: Mapping[str, Any], how: tuple[list[str], list[str], list[tuple[str, str]], list[str]]
) -> tuple[dict[str, Any], str]:
    """Content for torch.save, and where the weights lie in it."""
    keys, prefixes, parts, noise = how
    content = dict(weights)
    for module, wrapper in parts:
        content = wrapped_part(module, wrapper, content)
    content = prefixed("".join(f"{prefix}." for prefix in prefixes), content)
    for key in reversed(keys):
        content = {key: content, **{name: NOISE[name] for name in noise if name != key}}
    return content, ".".join([*keys, *prefixes])


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(how=wrappings())
def test_every_nesting_of_wrappers_loads_the_same_weights(
    mobilesam: StateDict, how: tuple[list[str], list[str], list[tuple[str, str]], list[str]]
) -> None:
    content, entry = wrap(mobilesam, how)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "w.pt")
        torch.save(content, path)
        checkpoint = load_checkpoint(str(path))
    assert checkpoint.provenance.weights_sha256 == weights_sha256(mobilesam)
    assert checkpoint.provenance.entry == entry
    assert bool(checkpoint.notes) == bool(entry or how[2])


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What `read_values` gives, without a file."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        below = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        values |= {f"{prefix}{name}": value} if below is None else below
    return values


@settings(max_examples=100, deadline=None)
@given(first=wrappings(), second=wrappings())
def test_two_sets_are_found_wherever_they_lie(first: Any, second: Any) -> None:
    names = dict.fromkeys(expected_entries(), 0)
    (one, place), (other, other_place) = wrap(names, first), wrap(names, second)
    sets = find_sets(flat({"raw": one, "average": other}))
    assert [item.entry for item in sets] == [
        ".".join(filter(None, ("raw", place))),
        ".".join(filter(None, ("average", other_place))),
    ]
    assert all(item.complete and used_entries() <= item.entries.keys() for item in sets)


def test_modules_saved_one_by_one_are_one_set(mobilesam: StateDict, tmp_path: Path) -> None:
    content: dict[str, StateDict] = {}
    for name, value in mobilesam.items():
        module, _, rest = name.partition(".")
        content.setdefault(module, {})[rest] = value
    torch.save(content, tmp_path / "w.pt")
    loaded = load_checkpoint(f"{tmp_path}/w.pt")
    assert loaded.provenance.weights_sha256 == weights_sha256(mobilesam)
    assert loaded.notes == ()


def scaled(weights: StateDict, factor: float) -> StateDict:
    return {k: v * factor if v.is_floating_point() else v for k, v in weights.items()}


@pytest.fixture(scope="module")
def two_sets(mobilesam: StateDict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of raw weights and their average, which is half of them."""
    path = tmp_path_factory.mktemp("two") / "both.pt"
    ema = {"module": prefixed("module.", scaled(mobilesam, 0.5)), "decay": 0.999}
    torch.save({"model": mobilesam, "ema": ema, "epoch": 9}, path)
    return path


def test_two_sets_are_refused_by_name(two_sets: Path, tmp_path: Path) -> None:
    said = (
        "this file holds two sets of weights: model, ema.module.module; choose with -c FILE:ENTRY"
    )
    refused(tmp_path, ["onnx", "-c", two_sets], ERROR, [str(two_sets), said])


@pytest.mark.parametrize(
    ("entry", "factor"),
    [("model", 1), ("ema", 0.5), ("ema.module.module", 0.5), ("ema.module", 0.5)],
)
def test_a_set_is_chosen_by_its_name_or_a_part_of_it(
    entry: str, factor: float, two_sets: Path, mobilesam: StateDict
) -> None:
    chosen = load_checkpoint(f"{two_sets}:{entry}")
    expected = scaled(mobilesam, factor)
    assert chosen.provenance.weights_sha256 == weights_sha256(expected)
    assert chosen.provenance.entry == ("model" if factor == 1 else "ema.module.module")
    assert chosen.provenance.source == "both.pt"


def test_an_entry_that_is_none_is_refused_with_those_there_are(two_sets: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights of MobileSAM at 'raw'.*model, ema"):
        load_checkpoint(f"{two_sets}:raw")


def test_an_entry_that_means_two_sets_is_refused(mobilesam: StateDict, tmp_path: Path) -> None:
    torch.save({"a": {"model": mobilesam}, "b": {"model": mobilesam}}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"2 sets of weights at 'model'.*a\.model, b\.model"):
        load_checkpoint(f"{tmp_path}/w.pt:model")


def test_weights_without_the_lora_beside_them_are_chosen_by_name(
    mobilesam: StateDict, tmp_path: Path
) -> None:
    torch.save({"sam": mobilesam, "lora": {"w_a_000": torch.zeros(4, 9)}}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"with LoRA: .* beside .*-c FILE:sam"):
        load_checkpoint(f"{tmp_path}/w.pt")
    loaded = load_checkpoint(f"{tmp_path}/w.pt:sam")
    assert "left out 1 entry that is no part of MobileSAM (first: lora.w_a_000)" in loaded.notes[1]


def test_the_same_weights_twice_are_refused_too(mobilesam: StateDict, tmp_path: Path) -> None:
    """Whether they are equal, only the user can know to be meant."""
    torch.save({"model": mobilesam, "ema": mobilesam}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="two sets of weights: model, ema; choose"):
        load_checkpoint(f"{tmp_path}/w.pt")


def test_weights_at_the_top_are_chosen_by_a_dot(mobilesam: StateDict, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({**mobilesam, "ema": scaled(mobilesam, 0.5)}, path)
    with pytest.raises(CheckpointError, match=r"two sets of weights: \., ema"):
        load_checkpoint(str(path))
    chosen = load_checkpoint(f"{path}:.").provenance
    assert (chosen.weights_sha256, chosen.entry) == (weights_sha256(mobilesam), "")


def test_two_prefixes_in_one_dictionary_are_two_sets(mobilesam: StateDict, tmp_path: Path) -> None:
    path = tmp_path / "lightning.ckpt"
    averaged = prefixed("ema_model.module.", scaled(mobilesam, 0.5))
    torch.save({"state_dict": {**prefixed("model.", mobilesam), **averaged}}, path)
    with pytest.raises(CheckpointError, match=r"state_dict\.model, state_dict\.ema_model\.module"):
        load_checkpoint(str(path))
    chosen = load_checkpoint(f"{path}:ema_model").provenance
    assert chosen.weights_sha256 == weights_sha256(scaled(mobilesam, 0.5))


def test_an_average_of_parameters_only_is_left_out_and_named(
    mobilesam: StateDict, tmp_path: Path
) -> None:
    shadow = {k: v for k, v in mobilesam.items() if "running_" not in k and "gaussian" not in k}
    torch.save({"model": mobilesam, "shadow": shadow}, tmp_path / "w.pt")
    loaded = load_checkpoint(f"{tmp_path}/w.pt")
    assert loaded.provenance.entry == "model"
    assert any("'shadow' are incomplete" in note for note in loaded.notes)
    with pytest.raises(CheckpointError, match=r"missing keys .first: .*running_mean"):
        load_checkpoint(f"{tmp_path}/w.pt:shadow")


def test_a_name_with_and_without_a_wrapper_is_refused(mobilesam: StateDict, tmp_path: Path) -> None:
    twice = {**mobilesam, **wrapped_part("mask_decoder", "module", mobilesam)}
    torch.save(twice, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt: 'mask_decoder\.\S+' is there twice"):
        load_checkpoint(f"{tmp_path}/w.pt")


@pytest.mark.parametrize(
    ("written", "file", "entry"),
    [
        ("a.pt", "a.pt", ""),
        ("a.pt:ema", "a.pt", "ema"),
        ("a.pt:ema:0.99", "a.pt", "ema:0.99"),
        ("b:1.pt", "b:1.pt", ""),
        ("b:1.pt:ema", "b:1.pt", "ema"),
        ("a.pt:x", "a.pt:x", ""),
        ("gone.pt:ema", "gone.pt:ema", ""),
    ],
)
def test_a_colon_in_the_name_of_a_file_is_no_entry(
    written: str, file: str, entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "b:1.pt", "a.pt:x"):
        Path(name).touch()
    assert split_source(written) == (Path(file), entry)


def test_an_export_says_what_it_took_and_records_it(
    two_sets: Path, onnx_bundle: Path, tmp_path: Path
) -> None:
    options = ["--image-size", 256, "--no-verify", "-o", "out"]
    arguments = ["onnx", "-c", f"{two_sets}:ema", *options]
    done = warm(tmp_path, arguments, before=[partial(reuse_files, onnx_bundle)])
    assert done.code == 0, done.stderr
    said = "note: both.pt: took the weights from 'ema.module.module' and stripped this prefix"
    assert said in done.stderr.splitlines()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["checkpoint"]["source"] == "both.pt"
    assert manifest["checkpoint"]["entry"] == "ema.module.module"


def test_inspect_lists_the_sets_of_a_file(two_sets: Path, tmp_path: Path) -> None:
    result = warm(tmp_path, ["checkpoint", "inspect", two_sets])
    assert (result.code, result.stderr) == (0, "")
    assert "2 sets of weights: model, ema.module.module" in result.stdout
    assert f"it can be exported, with -c {two_sets}:ENTRY" in result.stdout
    chosen = warm(tmp_path, ["checkpoint", "inspect", f"{two_sets}:ema", "--json"])
    report = json.loads(chosen.stdout)
    assert (report["model"], report["entry"]) == ("MobileSAM", "ema.module.module")
    assert report["sets"] == ["model", "ema.module.module"]
    assert report["notes"] == ["took the weights from 'ema.module.module' and stripped this prefix"]
