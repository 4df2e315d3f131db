"""`mobilesam-export TARGET`, and what `run` and `all` share with it: options, call, printing."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands.common import (
    FAILED,
    JSON,
    OK,
    SizeType,
    print_json,
    print_notes,
    styled,
)
from mobilesam_export.target import Target, load_target
from mobilesam_export.verification.status import Status

if TYPE_CHECKING:
    from mobilesam_export.pipeline import Job, Outcome


@dataclass(frozen=True)
class ExportOptions:
    """The options of every command that exports; see their help.

    Attributes:
        out: the bundle's folder, or for several targets the folder that bundles are put in.
    """

    checkpoint: str
    recipe: str | None
    out: Path | None
    image_size: str
    margin: int | None
    points: int
    calibration: Path | None
    min_iou: float | None
    prompt_sets: int | None
    split_decoder: bool
    no_fit: bool
    recover: int | None
    keep_failed: bool
    no_verify: bool
    as_json: bool

    def job(self, target: Target, *, several: bool) -> "Job":
        """The export for one target; `several`: it is one of many.

        Raises:
            TargetError: the target has no such recipe. UsageError: the size is none.
        """
        from mobilesam_export.contract.frame import frame_of
        from mobilesam_export.pipeline import Job

        out = self.out
        if out is not None and several:
            out = out / f"{target.name}-{target.recipe(self.recipe)[0]}"
        return Job(
            target=target,
            recipe=self.recipe,
            checkpoint=self.checkpoint,
            out=out,
            image_size=frame_of(self.image_size, self.margin).option,
            margin=self.margin,
            points=self.points,
            verify=not self.no_verify,
            calibration=self.calibration,
            fit=not self.no_fit,
            recover=self.recover or 0,
            min_iou=self.min_iou,
            prompt_sets=None if self._is_plain(target, several) else self.prompt_sets,
            split_decoder=self.split_decoder and not self._is_plain(target, several),
            keep_failed=self.keep_failed,
        )

    def _is_plain(self, target: Target, several: bool) -> bool:
        """Whether it goes without further files: of several targets those of others' interfaces."""
        return several and target.graph.prompt in ("sam", "segmenter")

    def note_plain(self, target: Target) -> None:
        """Say which further files one of several targets goes without."""
        from mobilesam_export.progress import note

        if not self._is_plain(target, several=True):
            return
        one = "one decoder" if target.graph.prompt == "sam" else "one file"
        has = f"{target.name} has an interface of others"
        if self.prompt_sets is not None:
            note(f"{has}, which knows no prompt sets: none for it")
        if self.split_decoder:
            note(f"{has}, which knows {one}: it is not split")


OPTIONS = (
    click.option(
        "-c",
        "--checkpoint",
        default="official",
        show_default=True,
        help="official, demo, seeded[:STUDENT][:SALT], or a .pt, .pth or .safetensors file; "
        "FILE:ENTRY for one of several sets of weights in it. "
        "$MOBILESAM_CHECKPOINT replaces the download of official.",
    ),
    click.option(
        "-r",
        "--recipe",
        help="Precision or quantization recipe; `mobilesam-export targets` lists them.",
    ),
    click.option(
        "-o",
        "--out",
        type=click.Path(path_type=Path),
        help="The bundle's folder. [default: build/TARGET-RECIPE]",
    ),
    click.option(
        "--image-size",
        type=SizeType(),
        default="1024",
        show_default=True,
        help="Side of the square input, or width and height for images of one shape: multiples of "
        "64 from 256 to 4096.",
    ),
    click.option(
        "--margin",
        type=int,
        metavar="PIXELS",
        help="With WxH: how much of the square's padding the encoder computes all the same. More "
        "is nearer to the square and slower. [default: 96]",
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
        help="Folder of images like the app's: they fix the ranges of activations, in static "
        "recipes and for float16. [default: scenes]",
    ),
    click.option(
        "--min-iou",
        type=float,
        metavar="X",
        help="Least mean mask IoU against PyTorch, over 0 to 1. [default: the recipe's tolerance]",
    ),
    click.option(
        "--prompt-sets",
        type=int,
        metavar="Q",
        help="Add decoder_batch, which answers Q prompts about one image at once: 1 to 64.",
    ),
    click.option(
        "--recover",
        type=click.IntRange(1),
        metavar="STEPS",
        help="Train the encoder to bear the recipe before anything is raised in precision, on "
        "--calibration or scenes; 150 steps are a start. See distill.",
    ),
    click.option(
        "--split-decoder",
        is_flag=True,
        help="Add prepare, run once per image, and decoder_prepared, for faster clicks without a "
        "mask input.",
    ),
    click.option(
        "--no-fit",
        is_flag=True,
        help="Do not raise layers in precision where the recipe does not hold on these weights.",
    ),
    click.option(
        "--keep-failed",
        is_flag=True,
        help="Write the bundle though its files fail verification; it says so, and exit is 3.",
    ),
    click.option("--no-verify", is_flag=True, help="Do not run the files."),
    JSON,
)


def export_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command these options, and call it with them as one object, `options`."""
    names = [field.name for field in fields(ExportOptions)]

    @functools.wraps(command)
    def parsed(**values: Any) -> int:
        options = ExportOptions(**{name: values.pop(name) for name in names})
        return command(**values, options=options)

    for option in reversed(OPTIONS):
        parsed = option(parsed)
    return parsed


def target_command(name: str) -> click.Command:
    """The subcommand of a built-in target."""
    target = load_target(name)

    @click.command(name, help=f"{target.description}.", short_help=target.description)
    @export_options
    def command(options: ExportOptions) -> int:
        return export_targets([target], options)

    return command


def export_targets(
    targets: Sequence[Target], options: ExportOptions, skipped: Mapping[str, str] | None = None
) -> int:
    """Export one or several targets, print the outcome of each; the worst exit code.

    Args:
        targets: what to export for.
        options: of the command.
        skipped: names of targets that are left out, and why.

    Raises:
        MobileSamExportError: a job is wrong (nothing is done then), or cannot go on.
    """
    from mobilesam_export.pipeline import check, export
    from mobilesam_export.progress import note

    jobs = [options.job(target, several=len(targets) > 1) for target in targets]
    for target in targets if len(targets) > 1 else ():
        options.note_plain(target)
    for job in jobs:  # all of them before the first takes its time
        check(job)
    skipped = skipped or {}
    for name, reason in skipped.items():
        note(f"{name} is left out: {reason}")
    outcomes: list[tuple[Target, Outcome]] = []
    for job in jobs:
        outcome = export(job)
        outcomes.append((job.target, outcome))
        if not options.as_json:
            print_outcome(job.target, outcome)
            print_notes(outcome.report.note)
    if options.as_json:
        results = [outcome_dict(*item) for item in outcomes]
        several = {"bundles": results, "skipped": dict(skipped)}
        print_json(results[0] if len(targets) == 1 else several)
    failed = [outcome.report.status is Status.FAILED for _, outcome in outcomes]
    return FAILED if any(failed) else OK


def print_outcome(target: Target, outcome: "Outcome") -> None:
    """The result of one export, for people."""
    if outcome.folder is None:
        click.echo(f"{target.name}: nothing written, the files failed verification")
    else:
        click.echo(click.style(str(outcome.folder), bold=True))
        for name, size in outcome.sizes.items():
            click.echo(f"  {name:<20} {size / 1e6:6.1f} MB")
    if outcome.recovery is not None:
        click.echo(f"  {outcome.recovery.summary()}")
    if outcome.fit is not None:
        click.echo(f"  {outcome.fit.summary()}")
    click.echo(f"  {styled(outcome.report.summary(), outcome.report.status)}")
    if outcome.folder is None:
        click.echo("  to look at them all the same, export with --keep-failed", err=True)


def outcome_dict(target: Target, outcome: "Outcome") -> dict[str, Any]:
    """The result of one export, for programs."""
    return {
        "target": target.name,
        "bundle": None if outcome.folder is None else str(outcome.folder),
        "bytes": outcome.sizes,
        "fit": None if outcome.fit is None else outcome.fit.as_dict(),
        "recovery": None if outcome.recovery is None else outcome.recovery.as_dict(),
        "verification": outcome.report.as_dict(),
    }
