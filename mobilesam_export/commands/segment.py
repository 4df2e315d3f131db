"""`segment`: clicks or a box on a picture to a mask, with a bundle's files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands.common import BUNDLE, JSON, OK, print_json, print_notes

if TYPE_CHECKING:
    NumbersBase = click.ParamType[tuple[float, ...]]
else:
    NumbersBase = click.ParamType  # generic since click 8.2 only


class NumbersType(NumbersBase):
    """Comma-separated numbers, such as 320,240."""

    def __init__(self, form: str, counts: tuple[int, ...]) -> None:
        self.name = form
        self.counts = counts

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parse, or fail with the form that was expected."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in self.counts:
            self.fail(f"{value!r} is not of the form {self.name}", param, ctx)
        if 3 in self.counts and len(numbers) == 3 and numbers[2] not in (0, 1):
            self.fail(f"{value!r}: a point's label is 1 (foreground) or 0", param, ctx)
        return numbers


@click.command("segment")
@BUNDLE
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--point",
    "points",
    multiple=True,
    type=NumbersType("X,Y[,0|1]", (2, 3)),
    help="A click in pixels of the picture; 0: not part of it. May be repeated.",
)
@click.option("--box", type=NumbersType("X0,Y0,X1,Y1", (4,)), help="A box around it, in pixels.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("mask.png"),
    show_default=True,
    help="The mask, white on black, of the picture's size.",
)
@click.option("--overlay", type=click.Path(path_type=Path), help="The mask drawn on the picture.")
@JSON
def segment_command(
    bundle: Path,
    image: Path,
    points: tuple[tuple[float, ...], ...],
    box: tuple[float, float, float, float] | None,
    **outputs: Any,
) -> int:
    """Segment what you point at in IMAGE with the files of BUNDLE.

    \b
    Example:
      mobilesam-export segment build/onnx-float32 photo.jpg --point 320,240 --overlay out.png
    """
    from PIL import Image

    from mobilesam_export import prompts, segment
    from mobilesam_export.bundle.manifest import open_bundle

    paths = [path for path in (outputs["out"], outputs["overlay"]) if path is not None]
    segment.check_picture_paths(image, paths)
    opened = open_bundle(bundle)
    picture = prompts.load_picture(image)
    clicks = tuple((x, y, not label or bool(label[0])) for x, y, *label in points)
    prompt = prompts.Prompt(clicks, box)
    result = segment.segment(opened, picture, prompt)
    pictures = [Image.fromarray(result.mask), segment.overlay(picture, result.mask, prompt)]
    for made, path in zip(pictures, paths, strict=False):
        segment.save_picture(made, path)
    share = float(result.mask.mean())
    if outputs["as_json"]:
        files = [str(path) for path in paths]
        print_json({"files": files, "share": share, "predicted_iou": result.predicted_iou})
    else:
        written = ", ".join(str(path) for path in paths)
        click.echo(f"{written}: {share:.1%} of it, predicted IoU {result.predicted_iou:.2f}")
        print_notes(result.note)
    if not opened.provenance.trained:
        click.echo(f"note: weights {opened.provenance.source} are not trained", err=True)
    elif opened.provenance.source == "demo":
        click.echo("note: the demo weights know generated scenes only", err=True)
    return OK
