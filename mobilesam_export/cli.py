"""The command line: parse, call, print. Heavy imports stay inside the commands.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 an error, 2 wrong
usage, 3 ran but failed a tolerance (or, asked to verify, could not).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mobilesam_export.commands.benchmark import benchmark_command
from mobilesam_export.commands.checkpoint import checkpoint_group
from mobilesam_export.commands.common import (
    BUNDLE,
    FAILED,
    JSON,
    OK,
    print_json,
    print_notes,
    styled,
)
from mobilesam_export.commands.compare import compare_command
from mobilesam_export.commands.device_script import device_script_command
from mobilesam_export.commands.evaluate import evaluate_command
from mobilesam_export.commands.inspect import inspect_command
from mobilesam_export.commands.segment import segment_command
from mobilesam_export.errors import UsageError
from mobilesam_export.target import Target, builtin_targets, load_target

if TYPE_CHECKING:
    from mobilesam_export.pipeline import Outcome

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mobilesam-export")
@click.option("--debug", is_flag=True, help="Show a traceback when something goes wrong.")
def cli(debug: bool) -> None:
    """Take MobileSAM to iPhone and Android: convert, verify, hand over.

    \b
    Example:
      mobilesam-export coreml -c demo
      mobilesam-export segment build/onnx-float32 photo.jpg --point 320,240
    """


def export_options(command: Command) -> Command:
    """The options of every command that exports."""
    for option in reversed(
        (
            click.option(
                "-c",
                "--checkpoint",
                default="official",
                show_default=True,
                help="official, demo, seeded, seeded:SALT, or a .pt, .pth or .safetensors file. "
                "$MOBILESAM_CHECKPOINT replaces the download of official.",
            ),
            click.option("-r", "--recipe", help="What the numbers are; see `targets`."),
            click.option(
                "-o",
                "--out",
                type=click.Path(path_type=Path),
                help="The bundle's folder. [default: build/TARGET-RECIPE]",
            ),
            click.option(
                "--image-size",
                default=1024,
                show_default=True,
                help="Side of the square input: a multiple of 64 from 256 to 4096.",
            ),
            click.option(
                "--points",
                default=6,
                show_default=True,
                help="Prompt slots of the decoder; a box takes two.",
            ),
            click.option(
                "--calibration",
                type=click.Path(path_type=Path),
                help="Folder of pictures that fix the ranges of static recipes. [default: scenes]",
            ),
            click.option("--no-verify", is_flag=True, help="Do not run the files."),
            JSON,
        )
    ):
        command = option(command)
    return command


def add_target_command(name: str) -> None:
    """Make a built-in target a subcommand."""
    target = load_target(name)

    @cli.command(name, help=f"{target.description}.", short_help=target.description)
    @export_options
    def command(**options: Any) -> int:
        return run_exports([target], options)


for _name in builtin_targets():
    add_target_command(_name)


@cli.command("run")
@click.argument("target")
@export_options
def run_command(target: str, **options: Any) -> int:
    """Export for TARGET: a name, or the path of your own .toml.

    \b
    Example:
      mobilesam-export run my-target.toml -c finetuned.pt
    """
    return run_exports([load_target(target)], options)


@cli.command("all")
@export_options
def all_command(**options: Any) -> int:
    """Export for every target with its default recipe; --out is then their common folder.

    \b
    Example:
      mobilesam-export all -c demo
    """
    return run_exports([load_target(name) for name in builtin_targets()], options)


def run_exports(targets: list[Target], options: dict[str, Any]) -> int:
    """Export one or several targets, print what came of each; the worst exit code."""
    from mobilesam_export.pipeline import Job, check, export

    jobs = []
    for target in targets:
        out = options["out"]
        if out is not None and len(targets) > 1:
            out = out / f"{target.name}-{target.recipe(options['recipe'])[0]}"
        jobs.append(
            Job(
                target=target,
                recipe=options["recipe"],
                checkpoint=options["checkpoint"],
                out=out,
                image_size=options["image_size"],
                points=options["points"],
                verify=not options["no_verify"],
                calibration=options["calibration"],
            )
        )
    if options["calibration"] and not any(
        job.target.recipe(job.recipe)[1].calibrated for job in jobs
    ):
        raise UsageError("--calibration is for static recipes only, and this is none")
    for job in jobs:  # all of them before the first takes its time
        check(job)
    outcomes: list[tuple[Target, Outcome]] = []
    for job in jobs:
        outcome = export(job)
        outcomes.append((job.target, outcome))
        if not options["as_json"]:
            print_outcome(job.target, outcome)
            print_notes(outcome.report.note)
    if options["as_json"]:
        results = [outcome_dict(*item) for item in outcomes]
        print_json(results[0] if len(targets) == 1 else {"bundles": results})
    return max(OK if outcome.folder is not None else FAILED for _, outcome in outcomes)


def print_outcome(target: Target, outcome: "Outcome") -> None:
    """The result of one export, for people."""
    if outcome.folder is None:
        click.echo(f"{target.name}: nothing written, the files failed verification")
    else:
        click.echo(click.style(str(outcome.folder), bold=True))
        for name, size in outcome.sizes.items():
            click.echo(f"  {name:<20} {size / 1e6:6.1f} MB")
    click.echo(f"  {styled(outcome.report.summary())}")
    if outcome.folder is None:
        click.echo("  to look at them all the same, export with --no-verify", err=True)


def outcome_dict(target: Target, outcome: "Outcome") -> dict[str, Any]:
    """The result of one export, for programs."""
    return {
        "target": target.name,
        "bundle": None if outcome.folder is None else str(outcome.folder),
        "bytes": outcome.sizes,
        "verification": outcome.report.as_dict(),
    }


@cli.command("targets")
@JSON
def targets_command(as_json: bool) -> int:
    """List targets, their recipes, and whether their files can be run here."""
    from mobilesam_export.backends import get_backend

    rows: list[dict[str, Any]] = []
    for name in builtin_targets():
        target = load_target(name)
        rows.append(
            {
                "target": name,
                "description": target.description,
                "recipes": list(target.recipes),
                "default_recipe": target.default_recipe,
                "unavailable": get_backend(target.backend).why_unavailable(),
                "verified_by": get_backend(target.backend).runner(),
            }
        )
    if as_json:
        print_json({"targets": rows})
        return OK
    for row in rows:
        recipes = [f"{r} (default)" if r == row["default_recipe"] else r for r in row["recipes"]]
        click.echo(f"{click.style(row['target'], bold=True)}: {row['description']}")
        click.echo(f"  recipes: {', '.join(recipes)}")
        why = row["unavailable"]
        click.echo(f"  verified here: {'no, ' + why if why else 'by ' + row['verified_by']}")
    return OK


@cli.command("verify")
@BUNDLE
@click.option("-c", "--checkpoint", help="What it was made of. [default: what it names]")
@click.option(
    "--interpreter",
    is_flag=True,
    help="On a Mac: compare Core ML's answers with the MIL interpreter's, too.",
)
@JSON
def verify_command(bundle: Path, checkpoint: str | None, interpreter: bool, as_json: bool) -> int:
    """Check a bundle's hashes, run its files, and compare them with PyTorch.

    \b
    Example:
      mobilesam-export verify build/onnx-float32
    """
    from mobilesam_export import pipeline

    compared = pipeline.compare_with_interpreter(bundle) if interpreter else None
    report = pipeline.verify_bundle(bundle, checkpoint)
    if as_json:
        other = {} if compared is None else {"against_interpreter": compared.as_dict()}
        print_json({"bundle": str(bundle), "verification": report.as_dict(), **other})
    else:
        click.echo(f"{bundle}: {styled(report.summary())}")
        if compared is not None:
            click.echo(f"  against the interpreter: {styled(compared.summary())}")
        print_notes(report.note)
    failed = compared is not None and compared.status == "failed"
    return OK if report.status == "passed" and not failed else FAILED


for _command in (
    benchmark_command,
    checkpoint_group,
    compare_command,
    device_script_command,
    evaluate_command,
    inspect_command,
    segment_command,
):
    cli.add_command(_command)
