"""`segment --everything`: the masks of all objects of an image."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands.common import print_json
from mobilesam_export.errors import UsageError

if TYPE_CHECKING:
    from mobilesam_export.bundle.manifest import Bundle
    from mobilesam_export.prompts import ImageArray

SETTINGS = ("points_per_side", "pred_iou_thresh", "stability_score_thresh", "box_nms_thresh")
OPTIONS = ("labels", *SETTINGS)  # that only everything mode has
OUT = Path("masks.json")


@dataclass(frozen=True)
class EverythingOptions:
    """The options of everything mode; a setting of None is its default.

    Attributes:
        out: JSON with every mask.
        labels: PNG with the number of the mask at each pixel.
        overlay: PNG with the masks drawn on the image.
    """

    image: Path
    out: Path
    labels: Path | None
    overlay: Path | None
    as_json: bool
    points_per_side: int | None
    pred_iou_thresh: float | None
    stability_score_thresh: float | None
    box_nms_thresh: float | None

    @property
    def images(self) -> list[Path]:
        """PNGs to write."""
        return [path for path in (self.labels, self.overlay) if path is not None]

    def check_paths(self) -> None:
        """Refuse, before any work, what cannot be written."""
        from mobilesam_export import segment
        from mobilesam_export.files import check_output

        check_output(self.out, ".json")
        segment.check_image_paths(self.image, self.images)


def everything_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of everything mode to a command."""
    number = click.option(
        "--points-per-side", type=int, help="Of the grid of clicks. [default: 32]"
    )
    least = "Least {} of a mask to keep. [default: {}]"
    for option in (
        click.option("--labels", type=click.Path(path_type=Path), help="PNG of mask numbers."),
        click.option(
            "--box-nms-thresh", type=float, help="Largest overlap of boxes. [default: 0.7]"
        ),
        click.option(
            "--stability-score-thresh", type=float, help=least.format("stability", "0.95")
        ),
        click.option("--pred-iou-thresh", type=float, help=least.format("predicted IoU", "0.88")),
        number,
        click.option("--everything", is_flag=True, help="All objects, without a prompt, as JSON."),
    ):
        command = option(command)
    return command


def run(opened: "Bundle", image: "ImageArray", options: EverythingOptions) -> str:
    """Find all masks, write the files, and print what was found.

    Returns:
        What must be known of what ran the files; see `Session`.

    Raises:
        UsageError: a setting is outside its range, or the bundle's decoder gives one mask only.
    """
    from mobilesam_export.everything import masks, output
    from mobilesam_export.progress import items_bar, note, step
    from mobilesam_export.prompts import height_and_width
    from mobilesam_export.segment import save_image

    given = {key: getattr(options, key) for key in SETTINGS}
    settings = masks.Settings(**{key: value for key, value in given.items() if value is not None})
    masks.check_settings(settings, opened.contract)
    with step("Loading the bundle"):
        predictor = opened.predictor()
    with step("Encoding the image"):
        encoded = predictor.embed(image)
    with items_bar("Clicking on a grid of points", settings.points_per_side**2) as advance:
        found = masks.find_masks(predictor, encoded, settings, advance)
    size = height_and_width(image)
    output.write_json(options.out, output.annotations(found, options.image, size, settings))
    if options.labels:
        save_image(output.label_map(found, size), options.labels)
    if options.overlay:
        save_image(output.overlay(image, found), options.overlay)
    if not found:
        note(
            "no answer has a predicted IoU above --pred-iou-thresh and the stability of "
            "--stability-score-thresh; lower values keep more masks"
        )
    files = [str(path) for path in (options.out, *options.images)]
    if options.as_json:
        print_json({"files": files, "masks": len(found)})
    else:
        click.echo(f"{', '.join(files)}: {len(found)} mask{'' if len(found) == 1 else 's'}")
    return predictor.encoder.note


def refuse_settings_alone(values: dict[str, Any]) -> None:
    """Settings of everything mode say nothing about a prompt.

    Raises:
        UsageError: one is given.
    """
    for key in OPTIONS:
        if values[key] is not None:
            raise UsageError(f"--{key.replace('_', '-')} goes with --everything only")
