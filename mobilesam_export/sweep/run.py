"""A sweep from options to rows: each point is exported, verified and evaluated, once."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilesam_export import cluster, packages
from mobilesam_export.errors import MeasurementError, MobileSamExportError
from mobilesam_export.evaluation.run import run as evaluate
from mobilesam_export.files import make_folder, read_json, write_json
from mobilesam_export.pipeline import check, export
from mobilesam_export.progress import items_bar, note
from mobilesam_export.sweep.points import Point, SweepOptions
from mobilesam_export.tables import Table, milliseconds

Row = dict[str, Any]
KINDS = ("click", "clicks", "box")
HEAD = ("target", "recipe", "size", "weights", "status", "MB", "click", "clicks", "box")
TIMES = ("encoder", "decoder")


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has found.

    Attributes:
        rows: one for each point, in their order; "problem" stands in one that has no figures.
    """

    rows: Sequence[Row]

    def table(self) -> Table:
        """For people: mean mask IoU by kind of prompt, and median milliseconds."""
        return (*HEAD, *(f"{name} ms" for name in TIMES)), [_cells(row) for row in self.rows]


def run(options: SweepOptions) -> SweepResult:
    """Export and evaluate every point of which there is no row yet.

    A point that cannot be exported or evaluated has a row that says why; it is tried again by
    the next call.

    Raises:
        MobileSamExportError: an option is wrong, or a row cannot be written.
    """
    if options.ray:
        packages.require("ray", extra="ray")
    points = options.points()
    for point in points:  # all of them before the first takes its time
        check(point.job(options.out, fit=options.fit))
    make_folder(options.out)
    rows = {point: _kept(options, point) for point in points}
    missing = [point for point, row in rows.items() if row is None]
    with items_bar("Sweeping", len(points), done=len(points) - len(missing)) as advance:
        for point, row in zip(missing, _measured(options, missing), strict=True):
            rows[point] = row
            if "problem" in row:
                note(f"{point.name}: {row['problem']}")
            else:
                write_json(_path(options, point), {**row, "asked": options.asked(point)})
            advance()
    return SweepResult([row for row in rows.values() if row is not None])


def _bundle(options: SweepOptions, point: Point) -> Path:
    return options.out / point.name


def _path(options: SweepOptions, point: Point) -> Path:
    return options.out / f"{point.name}.json"


def _kept(options: SweepOptions, point: Point) -> Row | None:
    """The row of an earlier call that asked for the same."""
    path = _path(options, point)
    if not path.exists():
        return None
    row = read_json(path, MeasurementError)
    if not isinstance(row, Mapping):
        raise MeasurementError(f"{path} is no row of a sweep; delete it")
    asked = json.loads(json.dumps(options.asked(point)))
    return {k: v for k, v in row.items() if k != "asked"} if row.get("asked") == asked else None


def _measured(options: SweepOptions, points: Sequence[Point]) -> Iterator[Row]:
    if not options.ray or not points:
        yield from (_measure((options, point)) for point in points)
        return
    items = [(cluster.absolute(options), cluster.absolute(point)) for point in points]
    yield from cluster.divided(_measure, items, options.ray, options.workers)


def _measure(item: tuple[SweepOptions, Point]) -> Row:
    """Export a point and evaluate its files, also those that fail verification."""
    options, point = item
    row: Row = {
        "target": Path(point.target).stem,
        "recipe": point.recipe,
        "image_size": point.image_size,
        "weights": Path(point.weights).name,
    }
    try:
        outcome = export(point.job(options.out, fit=options.fit))
        evaluation = evaluate(options.evaluation(_bundle(options, point), point.weights)).evaluation
    except MobileSamExportError as exc:
        return {**row, "problem": str(exc)}
    (score,) = evaluation.scores.values()
    return {
        **row,
        "status": str(outcome.report.status),
        "summary": outcome.report.summary(),
        "fit": None if outcome.fit is None else outcome.fit.as_dict(),
        "bytes": sum(outcome.sizes.values()),
        "images": evaluation.images,
        "objects": score.objects,
        "mean": score.means(),
        "median_ms": score.latency(),
    }


def _cells(row: Row) -> list[str]:
    names = [row["target"], row["recipe"], str(row["image_size"]), row["weights"]]
    if "problem" in row:
        return [*names, "no figures", *[""] * (len(HEAD) + len(TIMES) - 5)]
    return [
        *names,
        row["status"],
        f"{row['bytes'] / 1e6:.1f}",
        *(f"{row['mean'][kind]:.3f}" if kind in row["mean"] else "" for kind in KINDS),
        *(milliseconds(row["median_ms"].get(name)) for name in TIMES),
    ]
