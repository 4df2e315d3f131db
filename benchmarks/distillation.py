"""Keep the log of a run of `distill` among the results.

    python -m benchmarks.distillation "half, from nothing" build/half.distill

adds it under that name to `benchmarks/results/distillation.json`, without the losses of single
steps, of which the means of fifty parts of the run are kept.
"""

from pathlib import Path

import click
import numpy as np

from benchmarks.tables import RESULTS
from mobilesam_export.errors import MeasurementError
from mobilesam_export.files import read_json, write_json

RESULT = RESULTS / "distillation.json"
PARTS = 50


@click.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
def main(name: str, folder: Path) -> None:
    """Add the run in FOLDER as NAME."""
    log = read_json(folder / "log.json", MeasurementError)
    losses = np.array_split(log.pop("losses"), min(PARTS, log["steps"]))
    log["mean_losses"] = [round(float(part.mean()), 5) for part in losses]
    runs = read_json(RESULT, MeasurementError) if RESULT.exists() else {}
    write_json(RESULT, {**runs, name: log})


if __name__ == "__main__":
    main()
