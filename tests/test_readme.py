"""The README is true and short: its commands run, and its figures are what the code says."""

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from mobilesam_export.checkpoint.download import OFFICIAL
from mobilesam_export.cli import cli
from mobilesam_export.target import builtin_targets
from tests.cli_runner import warm
from tests.conftest import SIZE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BYTES = 8_000
FULL_SIZE = 1024  # for which the commands are written
POINT = re.compile(r"\d+,\d+")


def commands() -> list[list[str]]:
    """Arguments of every `mobilesam-export` in a code block, in order."""
    lines = re.findall(r"^mobilesam-export .*$", README.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


def smaller(argument: str) -> str:
    """The same point of the same scene, which golden vectors at SIZE have in a smaller image."""
    if not POINT.fullmatch(argument):
        return argument
    return ",".join(str(int(number) * SIZE // FULL_SIZE) for number in argument.split(","))


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= BYTES


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_in_the_readme_and_has_help(name: str) -> None:
    assert f"`{name}`" in README
    assert cli.commands[name].help


@pytest.mark.parametrize("name", ["make setup", "make demo", "make test", "make bench"])
def test_make_targets_of_the_readme_exist(name: str) -> None:
    assert name in README
    assert f"\n{name.split()[1]}:" in (ROOT / "Makefile").read_text()


def test_ci_calls_what_the_readme_says() -> None:
    assert "make check test" in (ROOT / ".ci" / "run").read_text()
    assert "`.ci/run` is `make check test`" in README


def test_figures_in_sentences_are_the_code_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = next(item for item in cli.commands["onnx"].params if item.name == "points")
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in README
    assert f"({OFFICIAL.size / 1e6:.1f} MB, pinned SHA-256)" in README
    assert f"(`--points`, default {points.default})" in README


def test_every_extra_is_named_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shared = {"torch"}  # part of the others, for nobody to ask for
    named = set(re.findall(r"\[(\w+)\]`", README)) | set(re.findall(r'"\.\[(\w+)\]"', README))
    assert named == set(project["optional-dependencies"]) - shared


def test_every_file_of_a_bundle_is_in_the_tree(coreml_bundle: Path) -> None:
    tree = README.partition("build/coreml-float16/\n")[2].partition("```")[0]
    named = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    assert named == {path.name for path in coreml_bundle.iterdir()}


def test_commands_run_in_order_as_they_stand(export: Callable[..., Path], tmp_path: Path) -> None:
    """But at SIZE, and with exports that other tests share."""
    run = commands()
    assert len(run) >= 3
    for arguments in run:
        if arguments[0] in builtin_targets():
            bundle = export(*arguments, "--image-size", str(SIZE))
            recipe = json.loads((bundle / "manifest.json").read_text())["recipe"]["name"]
            shutil.copytree(bundle, tmp_path / "build" / f"{arguments[0]}-{recipe}")
        else:
            done = warm(tmp_path, [smaller(argument) for argument in arguments])
            assert done.code == 0, f"{arguments}: {done.stderr}"
    assert {"overlay.png", "mask.png"} <= {path.name for path in tmp_path.iterdir()}
