"""Tables of `fitting.json`, `photographs.json` and `starts.json` in `results/`."""

from typing import Any

from benchmarks.tables import mask_figures, read
from mobilesam_export.tables import NONE, markdown

Row = dict[str, Any]


def fitting() -> str:
    """One line for each export: how it ended, what was raised, and what that cost."""
    head = ["weights", "recipe", "size", "outcome", "embedding", "mask IoU", "raised", "bytes"]
    body = [_cells(row) for row in _rows() if row.get("min_iou") is None]
    return markdown(([*head, "conversions", "processor time"], body))


def asked() -> str:
    """One line for each export that was asked for a mean mask IoU: that on scenes, the price."""
    head = ["weights", "recipe", "size", "asked for", "click", "box", "worst", "outcome", "raised"]
    body = []
    for row in _rows():
        if row.get("min_iou") is None:
            continue
        found = [NONE] * 3
        if "scenes" in row:
            found = mask_figures(row["scenes"]["mask_iou"])
        cells = _cells(row)
        body.append([*cells[:3], f"{row['min_iou']:g}", *found, cells[3], *cells[-4:]])
    return markdown(([*head, "bytes", "conversions", "processor time"], body))


def _rows() -> list[Row]:
    return sorted(read("fitting")["rows"], key=_order)


def _order(row: Row) -> tuple[int, str, str, str]:
    return (row["size"], row["weights"], row["target"], row["recipe"])


def _cells(row: Row) -> list[str]:
    fit = row["fit"]
    return [
        row["weights"],
        f"`{row['target']}:{row['recipe']}`",
        str(row["size"]),
        {"passed": "verified", "failed": "**failed**"}[row["status"]],
        "–" if row["embedding_psnr_db"] is None else f"{row['embedding_psnr_db']:.1f} dB",
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


def photographs() -> str:
    """One line for each recipe: masks held to PyTorch's on the same photographs."""
    rows = []
    for row in read("photographs")["rows"]:
        (found,) = row["candidates"].values()
        kinds = ("click", "clicks", "box", "click_boundary", "box_boundary")
        means = [f"{found['mean'][kind]:.4f}" for kind in kinds]
        cells = [f"`{row['recipe']}`", str(row["size"]), str(found["objects"]), *means]
        rows.append(cells)
    head = ["recipe", "size", "places", "click", "3 clicks", "box"]
    return markdown(([*head, "click, boundary", "box, boundary"], sorted(rows)))


def starts() -> str:
    """One line for each way to choose ranges or to round: masks held to PyTorch's."""
    rows = []
    for row in read("starts")["rows"]:
        found = mask_figures(row["mask_iou"], digits=3)
        psnr = f"{row['embedding_psnr_db_min']:.1f} dB"
        rows.append([f"`{row['recipe']}`", row["start"], str(row["size"]), psnr, *found])
    head = ["recipe", "start", "size", "embedding", "mask IoU, click", "box", "worst"]
    return markdown((head, rows))
