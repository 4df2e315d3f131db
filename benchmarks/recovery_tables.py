"""Table of `results/recovery.json`."""

from typing import Any

from benchmarks.tables import read
from mobilesam_export.tables import markdown

HEAD = [
    *("weights", "recipe", "size", "trained", "embedding, dB"),
    *("encoder: mask IoU", "won back", "both files", "won back"),
]


def recovery() -> str:
    """One line for each recipe and set of weights: files before and after."""
    return markdown((HEAD, [_cells(row) for row in read("recovery")["rows"]]))


def _cells(row: dict[str, Any]) -> list[str]:
    before, after = row["before"], row["after"]
    seconds = row["seconds"]
    took = "" if seconds is None else f" in {seconds / 60:.0f} min"
    cells = [
        row["weights"],
        f"`{row['recipe']}`",
        str(row["size"]),
        f"{row['steps']} steps{took}, {row['trained_on']}",
        f"{before['embedding_psnr_db']['mean']:.1f} → {after['embedding_psnr_db']['mean']:.1f}",
    ]
    for part in ("encoder", "both"):
        ious = (found["mask_iou"][part] for found in (before, after))
        cells += [" → ".join(f"{iou:.4f}" for iou in ious), f"{row['won_back'][part]:.0%}"]
    return cells
