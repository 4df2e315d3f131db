"""Sample apps come into a bundle whole, with their placeholders filled."""

from pathlib import Path
from typing import Any

import pytest

from mobilesam_export.backends import get_backend
from mobilesam_export.bundle import samples
from mobilesam_export.bundle.contents import Contents
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BackendError
from mobilesam_export.target import builtin_targets, load_target

VALUES = {"width": "1024", "slots": "6"}


def test_placeholders_are_filled() -> None:
    assert samples.fill("let width = {{width}}, n = {{slots}}", VALUES) == "let width = 1024, n = 6"


@pytest.mark.parametrize("text", ["{ {width} }", "{{ width }}", "f({})", "${width}"])
def test_other_braces_stay(text: str) -> None:
    assert samples.fill(text, VALUES) == text


def test_an_unknown_placeholder_is_named() -> None:
    with pytest.raises(BackendError, match=r"\{\{widths\}\}; known: slots, width"):
        samples.fill("{{widths}}", VALUES)


def test_folders_are_copied_whole_and_binary_files_as_they_are(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "a" / "b").mkdir(parents=True)
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "x.pyc").write_bytes(b"x")
    (source / "a" / "b" / "Code.kt").write_text("val width = {{width}} // é")
    (source / "icon.png").write_bytes(b"\xff{{width}}")
    samples._copy(samples._files(source), target, VALUES)
    assert (target / "a" / "b" / "Code.kt").read_text() == "val width = 1024 // é"
    assert (target / "icon.png").read_bytes() == b"\xff{{width}}"
    assert not (target / "__pycache__").exists()


@pytest.mark.parametrize("name", builtin_targets())
def test_the_samples_of_each_target_are_written_and_filled(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    nothing: Any = None  # samples know nothing of weights and figures
    contract = Contract(256, 6, target.graph)
    recipe, versions = target.default_recipe, {"mobilesam-export": "1"}
    samples.write_sample(
        tmp_path,
        Contents(target, recipe, contract, nothing, versions, report=nothing, logits_spread=1.0),
    )
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert bool(written) == bool(get_backend(target.backend).samples(contract))
    unfilled = [path for path in written if samples.PLACEHOLDER.search(_text(path))]
    assert not unfilled


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")
