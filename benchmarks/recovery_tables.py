"""Tables of `results/recovery.json` and `results/recovery_rates.json`."""

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


def rates() -> str:
    """One line for each learning rate: encoders in simulation, before and after training."""
    head = ["recipe", "weights", "size", "learning rate", "steps", "embedding, dB", "mask IoU"]
    return markdown(([*head, "won back"], [_rate(row) for row in read("recovery_rates")["rows"]]))


def _rate(row: dict[str, Any]) -> list[str]:
    first, last = row["epochs"][0], row["epochs"][-1]
    return [
        f"`{row['recipe']}`",
        row["weights"],
        str(row["size"]),
        f"{row['learning_rate']:.0e}".replace("e-0", "e-"),
        f"{last['step']} of {row['steps']}",
        f"{first['embedding_psnr_db']:.1f} → {last['embedding_psnr_db']:.1f}",
        f"{first['iou_mean']:.4f} → {last['iou_mean']:.4f}",
        f"{1 - (1 - last['iou_mean']) / (1 - first['iou_mean']):.0%}",
    ]
