"""The workflows of .github say what they can run: known commands, options, recipes and steps."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mobilesam_export.cli import cli
from mobilesam_export.target import load_target

ROOT = Path(__file__).parents[1]
JOBS: dict[str, dict[str, Any]] = yaml.safe_load(
    (ROOT / ".github" / "workflows" / "ci.yml").read_text()
)["jobs"]
RUNS = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
PROGRAM = ".venv/bin/mobilesam-export "
SWIFT_README = ROOT / "mobilesam_export/bundle/samples/swift/README.md"


@pytest.mark.parametrize("line", [run for run in RUNS if run.startswith(PROGRAM)])
def test_commands_of_the_workflow_parse(line: str) -> None:
    name, *arguments = shlex.split(line.removeprefix(PROGRAM))
    command = cli.commands[name]
    with click.Context(command) as context:
        command.parse_args(context, arguments)


@pytest.mark.parametrize("line", [run for run in RUNS if run.startswith("make ")])
def test_make_targets_of_the_workflow_exist(line: str) -> None:
    for target in line.split()[1:]:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_mac_tests_the_sample_as_its_readme_says() -> None:
    (line,) = (run for run in RUNS if "swift test" in run)
    assert line.partition(" && ")[2] in SWIFT_README.read_text().splitlines()


def test_the_mac_runs_recipes_that_there_are() -> None:
    recipes = JOBS["apple"]["strategy"]["matrix"]["recipe"]
    assert set(recipes) <= set(load_target("coreml").recipes)
