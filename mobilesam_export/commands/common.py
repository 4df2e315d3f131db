"""What several commands share: exit codes, arguments, how results are printed."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from mobilesam_export.files import check_output
from mobilesam_export.verification.status import Status

OK, ERROR, USAGE, FAILED = 0, 1, 2, 3
COLORS = {Status.PASSED: "green", Status.FAILED: "red", Status.UNVERIFIED: "yellow"}
BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
IMAGES = (
    click.option(
        "--images", type=click.Path(path_type=Path), help="A folder of images to evaluate on."
    ),
    click.option(
        "--annotations",
        type=click.Path(path_type=Path),
        help="COCO instances for them. [default: PyTorch's own masks stand for them]",
    ),
    click.option(
        "--scenes", default=20, show_default=True, help="Held-out scenes, if no --images."
    ),
    click.option("--limit", type=click.IntRange(1), help="Only so many images."),
)
RAY = click.option(
    "--ray", metavar="ADDRESS", help="Divide the work over workers of Ray: a cluster's, or local."
)
WORKERS = click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes of --ray."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


class SizeType(click.ParamType):  # type: ignore[type-arg] # click 8.1 takes none
    """A side, or width and height: as text for `contract.frame.frame_of`, which knows the range."""

    name = "N|WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from mobilesam_export.contract.frame import SIZE

        if SIZE.fullmatch(str(value)) is None:
            self.fail(f"{value!r} is no size such as 1024 or 1024x768", param, ctx)
        return value


def image_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that say which images bundles are evaluated on."""
    for option in reversed(IMAGES):
        command = option(command)
    return command


def styled(text: str, status: Status) -> str:
    """Colored by the status: green, red or yellow; only on terminals."""
    return click.style(text, fg=COLORS[status])


def print_notes(*notes: str) -> None:
    """Say on stderr what must be known of the runtimes that computed; see `Session.note`."""
    for note in dict.fromkeys(filter(None, notes)):
        click.echo(f"note: {note}", err=True)


def print_json(value: Mapping[str, Any]) -> None:
    """One object on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def print_text(text: str) -> None:
    """On stdout, with ? for characters that its encoding lacks: bars and dashes are not ASCII."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # None where stdout is closed
    click.echo(text.encode(encoding, "replace").decode(encoding))


def check_outputs(outputs: Mapping[str, Path | None]) -> None:
    """Refuse, before any work is done, files that could not be written at its end.

    Args:
        outputs: suffix -> the file, or None where none is asked for.

    Raises:
        UsageError, OutputError: see `check_output`.
    """
    for suffix, path in outputs.items():
        if path is not None:
            check_output(path, suffix)
