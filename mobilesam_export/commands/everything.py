"""`segment --everything`: the masks of all objects of an image."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands.common import print_json, print_notes
from mobilesam_export.errors import UsageError
from mobilesam_export.everything.settings import Settings

if TYPE_CHECKING:
    from mobilesam_export.bundle.manifest import Bundle
    from mobilesam_export.everything.masks import Found
    from mobilesam_export.prompts import ImageArray

OUT = Path("masks.json")
HELP = {
    "points_per_side": "Of the grid of clicks.",
    "pred_iou_thresh": "Least predicted IoU of a mask to keep.",
    "stability_score_thresh": "Least stability of a mask to keep.",
    "box_nms_thresh": "Largest overlap of boxes.",
    "hierarchical": "Click on a coarse grid first, then beside what it found: fewer calls.",
}
OPTIONS = ("labels", "boxes", *HELP)  # that only everything mode has


@dataclass(frozen=True)
class EverythingOptions:
    """The options of everything mode.

    Attributes:
        out: JSON with every mask.
        labels: PNG with the number of the mask at each pixel.
        overlay: PNG with the masks drawn on the image.
        boxes: JSON with boxes to mask in place of a grid of clicks.
    """

    bundle: Path
    image: Path
    out: Path
    labels: Path | None
    overlay: Path | None
    boxes: Path | None
    as_json: bool
    settings: Settings

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

    def run(self, opened: "Bundle", image: "ImageArray") -> None:
        """Find all masks, write the files, and print what was found.

        Raises:
            UsageError: a setting is outside its range, or the bundle's decoder gives one mask only.
        """
        from mobilesam_export.everything import masks
        from mobilesam_export.progress import items_bar, note, step

        masks.check_settings(self.settings, opened.contract)
        asked = self._boxes(opened, image)
        with step("Loading the bundle"):
            predictor = opened.predictor(batch=True)
        with step("Encoding the image"):
            encoded = predictor.embed(image)
        if asked is not None:
            with items_bar("Masking the boxes", len(asked)) as advance:
                found = masks.mask_boxes(predictor, encoded, asked, advance)
            if len(found) < len(asked):
                note(f"{len(asked) - len(found)} of {len(asked)} boxes have no mask")
        else:
            points = self.settings.points_per_side**2
            with items_bar("Clicking on a grid of points", points) as advance:
                found = masks.find_masks(predictor, encoded, self.settings, advance)
            if not found:
                note(
                    "no answer has a predicted IoU above --pred-iou-thresh and the stability of "
                    "--stability-score-thresh; lower values keep more masks"
                )
        self._write(found, image)
        files = [str(path) for path in (self.out, *self.images)]
        if self.as_json:
            print_json({"files": files, "masks": len(found)})
        else:
            click.echo(f"{', '.join(files)}: {len(found)} mask{'' if len(found) == 1 else 's'}")
        print_notes(predictor.encoder.note)

    def _boxes(
        self, opened: "Bundle", image: "ImageArray"
    ) -> list[tuple[float, float, float, float]] | None:
        """What --boxes gives, read before any work; None without it."""
        from mobilesam_export.everything.boxes import read_boxes
        from mobilesam_export.prompts import height_and_width

        if self.boxes is None:
            return None
        return read_boxes(self.boxes, height_and_width(image), opened.contract)

    def _write(self, found: "list[Found]", image: "ImageArray") -> None:
        from mobilesam_export.everything import output
        from mobilesam_export.files import write_text
        from mobilesam_export.prompts import height_and_width
        from mobilesam_export.segment import save_image

        size = height_and_width(image)
        content = output.annotations(found, self.image, size, self.settings)
        write_text(self.out, json.dumps(content) + "\n")  # in one line: counts are long lists
        if self.labels:
            save_image(output.label_map(found, size), self.labels)
        if self.overlay:
            save_image(output.overlay(image, found), self.overlay)


def everything_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of everything mode to a command."""
    command = click.option(
        "--labels", type=click.Path(path_type=Path), help="PNG of mask numbers."
    )(command)
    command = click.option(
        "--boxes",
        type=click.Path(path_type=Path),
        help="JSON with the boxes of a detector to mask, in place of a grid.",
    )(command)
    for field in reversed(fields(Settings)):
        name, text = f"--{field.name.replace('_', '-')}", HELP[field.name]
        if field.type is bool:
            command = click.option(name, is_flag=True, default=None, help=text)(command)
            continue
        command = click.option(
            name, type=type(field.default), help=f"{text} [default: {field.default}]"
        )(command)
    return click.option(
        "--everything", is_flag=True, help="All objects, without a prompt, as JSON."
    )(command)


def parse(values: dict[str, Any]) -> EverythingOptions:
    """The options of a command line with --everything.

    Raises:
        UsageError: there is a prompt, too.
    """
    if values.pop("points") or values.pop("box"):
        raise UsageError("--everything takes no prompt; leave --point and --box out")
    values["out"] = values["out"] or OUT
    given = {name: value for name in HELP if (value := values.pop(name)) is not None}
    if values["boxes"] is not None and given:
        name = next(iter(given)).replace("_", "-")
        raise UsageError(f"--boxes are masked one by one, without --{name}")
    return EverythingOptions(**values, settings=Settings(**given))


def take_out_unset(values: dict[str, Any]) -> None:
    """Take what only everything mode has from the options of a prompt, about which it says nothing.

    Raises:
        UsageError: one of them is given.
    """
    for key in OPTIONS:
        if values.pop(key) not in (None, False):
            raise UsageError(f"--{key.replace('_', '-')} goes with --everything only")
