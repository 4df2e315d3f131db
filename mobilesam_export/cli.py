"""The command line: a group, and its commands from `commands/`, one module each.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 an error, 2 wrong
usage, 3 ran but failed a tolerance (or, asked to verify, could not). Heavy imports stay inside
the commands, so that `--help` is quick.
"""

import click

from mobilesam_export.commands.all import all_command
from mobilesam_export.commands.benchmark import benchmark_command
from mobilesam_export.commands.checkpoint import checkpoint_group
from mobilesam_export.commands.compare import compare_command
from mobilesam_export.commands.device_script import device_script_command
from mobilesam_export.commands.diff import diff_command
from mobilesam_export.commands.distill import distill_command
from mobilesam_export.commands.evaluate import evaluate_command
from mobilesam_export.commands.export import target_command
from mobilesam_export.commands.inspect import inspect_command
from mobilesam_export.commands.ladder import ladder_command
from mobilesam_export.commands.preview import preview_command
from mobilesam_export.commands.run import run_command
from mobilesam_export.commands.segment import segment_command
from mobilesam_export.commands.sweep import sweep_command
from mobilesam_export.commands.targets import targets_command
from mobilesam_export.commands.verify import verify_command
from mobilesam_export.target import builtin_targets


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


for _command in (
    *map(target_command, builtin_targets()),
    all_command,
    benchmark_command,
    checkpoint_group,
    compare_command,
    device_script_command,
    diff_command,
    distill_command,
    evaluate_command,
    inspect_command,
    ladder_command,
    preview_command,
    run_command,
    segment_command,
    sweep_command,
    targets_command,
    verify_command,
):
    cli.add_command(_command)
