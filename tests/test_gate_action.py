"""The composite action of the latency gate: what it calls exists, and a workflow uses it."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mobilesam_export.cli import cli

GITHUB = Path(__file__).parents[1] / ".github"
ACTION: dict[str, Any] = yaml.safe_load((GITHUB / "actions/latency-gate/action.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]


def commands() -> list[list[str]]:
    """Arguments of every call of the program, a variable standing for its value."""
    scripts = "\n".join(step.get("run", "") for step in STEPS).replace("\\\n", " ")
    scripts = re.sub(r"\$\{\w+:\+(.*?)\}", r"\1", scripts)  # an option that is left out if empty
    calls = re.findall(r"mobilesam-export (.*?)(?: \|\| .*)?$", scripts, re.MULTILINE)
    return [shlex.split(call.replace("$IMAGE_SIZE", "1024")) for call in calls]


def test_it_exports_and_compares() -> None:
    assert [arguments[0] for arguments in commands()] == ["run", "compare"]


@pytest.mark.parametrize("arguments", commands(), ids=lambda arguments: arguments[0])
def test_commands_and_options_exist(arguments: list[str]) -> None:
    name, *rest = arguments
    cli.commands[name].make_context(name, rest, parent=click.Context(cli))


def test_inputs_reach_scripts_as_variables_only() -> None:
    """An expression inside a script would run what a pull request writes into it."""
    for step in STEPS:
        assert "${{" not in step.get("run", "")


def test_every_input_is_used_and_no_other() -> None:
    used = re.findall(
        r"\$\{\{ inputs\.([\w-]+) \}\}", (GITHUB / "actions/latency-gate/action.yml").read_text()
    )
    assert set(used) == set(ACTION["inputs"])


def test_every_script_has_a_shell() -> None:
    assert all(step["shell"] == "bash" for step in STEPS if "run" in step)


def test_a_workflow_for_pull_requests_uses_it() -> None:
    workflow = yaml.safe_load((GITHUB / "workflows/latency-gate.yml").read_text())
    assert workflow[True] == "pull_request"  # YAML 1.1 reads the key `on` as true
    steps = [step["uses"] for step in workflow["jobs"]["gate"]["steps"]]
    assert steps[-1] == "./.github/actions/latency-gate"
    assert (GITHUB.parent / steps[-1] / "action.yml").is_file()
