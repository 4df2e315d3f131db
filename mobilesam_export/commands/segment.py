"""`segment`: clicks or a box on an image to a mask, with a bundle's files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands import everything
from mobilesam_export.commands.common import BUNDLE, JSON, OK, print_json, print_notes

if TYPE_CHECKING:
    from mobilesam_export.bundle.manifest import Bundle
    from mobilesam_export.images import LoadedImage
    from mobilesam_export.prompts import ImageArray, Prompt

    NumbersBase = click.ParamType[tuple[float, ...]]
else:
    NumbersBase = click.ParamType  # generic since click 8.2 only


@dataclass(frozen=True)
class SegmentOptions:
    """The options of `segment`.

    Attributes:
        points: x and y in pixels of the image, and where given the label 1 or 0.
        box: x0, y0, x1, y1 in pixels of the image.
    """

    bundle: Path
    image: Path
    points: tuple[tuple[float, ...], ...]
    box: tuple[float, float, float, float] | None
    out: Path
    overlay: Path | None
    as_json: bool

    @property
    def outputs(self) -> list[Path]:
        """Files to write: the mask, then the overlay."""
        return [self.out] if self.overlay is None else [self.out, self.overlay]

    def prompt(self) -> "Prompt":
        """Points and box as the model takes them; a point without a label is a positive one."""
        from mobilesam_export.prompts import Prompt

        clicks = tuple((x, y, not label or bool(label[0])) for x, y, *label in self.points)
        return Prompt(clicks, self.box)

    def check_paths(self) -> None:
        """Refuse, before any work, what cannot be written."""
        from mobilesam_export import segment

        segment.check_image_paths(self.image, self.outputs)

    def run(self, opened: "Bundle", image: "ImageArray") -> None:
        """Segment, write the images, and print what was found."""
        from PIL import Image

        from mobilesam_export import segment

        prompt = self.prompt()
        result = segment.segment(opened, image, prompt)
        segment.save_image(Image.fromarray(result.mask), self.out)
        if self.overlay:
            segment.save_image(segment.overlay(image, result.mask, prompt), self.overlay)
        share, files = float(result.mask.mean()), [str(path) for path in self.outputs]
        if self.as_json:
            print_json({"files": files, "share": share, "predicted_iou": result.predicted_iou})
            return
        shown = f"{share:.1%} of it, predicted IoU {result.predicted_iou:.2f}"
        click.echo(f"{', '.join(files)}: {shown}")
        print_notes(result.note)


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
    help="A click in pixels of the image; 0: not part of it. May be repeated.",
)
@click.option("--box", type=NumbersType("X0,Y0,X1,Y1", (4,)), help="A box around it, in pixels.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="The mask, white on black, of the image's size [default: mask.png]; of all objects, JSON "
    "[default: masks.json].",
)
@click.option("--overlay", type=click.Path(path_type=Path), help="The mask drawn on the image.")
@everything.everything_options
@JSON
def segment_command(**values: Any) -> int:
    """Segment IMAGE with BUNDLE: what you point at, or all.

    \b
    Examples:
      mobilesam-export segment build/onnx-float32 photo.jpg --point 320,240 --overlay out.png
      mobilesam-export segment build/onnx-float32 photo.jpg --everything --overlay out.png
    """
    from mobilesam_export import images
    from mobilesam_export.bundle.manifest import open_bundle

    options = everything.parse(values) if values.pop("everything") else _parse(values)
    options.check_paths()
    damage: list[str] = []  # outside the model files, which alone are run
    opened = open_bundle(options.bundle, warn=damage.append)
    loaded = images.read_image(options.image)
    options.run(opened, loaded.pixels)
    _print_notes(opened, loaded, options.image, damage)
    return OK


def _parse(values: dict[str, Any]) -> SegmentOptions:
    everything.take_out_unset(values)
    values["out"] = values["out"] or Path("mask.png")
    return SegmentOptions(**values)


def _print_notes(opened: "Bundle", loaded: "LoadedImage", path: Path, damage: list[str]) -> None:
    """What must be known of the bundle, the image and the weights."""
    from mobilesam_export import images, prompts

    shape = prompts.note_on_shape(loaded.pixels, opened.contract)
    notes = [*damage, *loaded.notes, *filter(None, [shape])]
    if images.is_single_color(loaded.pixels):
        notes.append(f"image {path} is of a single color; there is nothing to find")
    print_notes(*notes)
    if not opened.provenance.trained:
        click.echo(f"note: weights {opened.provenance.source} are not trained", err=True)
    elif opened.provenance.source == "demo":
        click.echo("note: the demo weights know generated scenes only", err=True)
