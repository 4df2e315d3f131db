"""The table of `results/fitting.json`: recipes on weights that they were not tuned on."""

from typing import Any

from benchmarks.tables import read
from mobilesam_export.tables import NONE, markdown

Row = dict[str, Any]


def fitting() -> str:
    """One line for each export: how it ended, what was raised, and what that cost."""
    rows = sorted(read("fitting")["rows"], key=_order)
    head = ["weights", "recipe", "size", "outcome", "embedding", "mask IoU", "raised", "bytes"]
    return markdown(([*head, "conversions", "processor time"], [_cells(row) for row in rows]))


def _order(row: Row) -> tuple[int, str, str, str]:
    return (row["size"], row["weights"], row["target"], row["recipe"])


def _cells(row: Row) -> list[str]:
    fit = row["fit"]
    return [
        row["weights"],
        f"`{row['target']}:{row['recipe']}`",
        str(row["size"]),
        {"passed": "verified", "failed": "**failed**"}[row["status"]],
        f"{row['embedding_psnr_db']:.1f} dB",
        f"{row['mask_iou']:.4f}",
        _raised(fit),
        f"{row['size_ratio']:.2f}",
        NONE if fit is None else str(fit["trials"]),
        f"{row['processor_seconds']:.0f} s",
    ]


def _raised(fit: Row | None) -> str:
    if fit is None:
        return "nothing"
    layers = sum(len(found) for found in fit["raised"].values())
    return f"{layers} layers, {fit['stored']}"
