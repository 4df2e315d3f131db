"""Tables of `benchmarks.baselines` and `benchmarks.coreai_opt`."""

from typing import Any

from benchmarks.tables import mask_figures, read
from mobilesam_export.tables import NONE, markdown

TOOLS = {
    "nncf": "NNCF, with accuracy control",
    "aimet": "AIMET, SeqMSE and AdaRound",
    "aimet-mixed": "AIMET, mixed precision (8 and 16 bits)",
}


def baselines() -> str:
    """One line for each encoder: mask IoU by click and box, size, latency beside float32."""
    lines = []
    for row in _by_weights("baselines"):
        name = TOOLS.get(row["encoder"], f"`onnx` {row['encoder']}")
        name += ", fitted" if row.get("fitted") else ""
        if "error" in row:
            lines.append([row["weights"], name, row["error"], NONE, NONE, NONE, _minutes(row)])
            continue
        size, ratio = f"{row['bytes'] / 1e6:.1f} MB", f"{row['latency_ratio']:.2f}"
        lines.append(
            [row["weights"], name, *mask_figures(row["mask_iou"]), size, ratio, _minutes(row)]
        )
    head = ["weights", "encoder", "click", "box", "worst", "size", "of float32's time"]
    return markdown(([*head, "processor time"], lines))


def coreai_opt() -> str:
    """One line for each encoder: mask IoU by click and box, the embedding's worst PSNR, size."""
    lines = []
    for row in _by_weights("coreai_opt"):
        tool, _, method = row["encoder"].partition(" ")
        name = f"`coreml` {method}" if tool == "coreml" else row["encoder"]
        psnr, size = f"{row['embedding_psnr_db_min']:.1f} dB", f"{row['bytes'] / 1e6:.1f} MB"
        lines.append(
            [row["weights"], name, *mask_figures(row["mask_iou"]), psnr, size, _minutes(row)]
        )
    head = ["weights", "encoder", "click", "box", "worst", "embedding", "size", "processor time"]
    return markdown((head, lines))


def _by_weights(name: str) -> list[dict[str, Any]]:
    """Rows of a result, of the same weights ours first."""

    def order(row: dict[str, Any]) -> tuple[str, bool]:
        return row["weights"], row["encoder"] in TOOLS or row["encoder"].startswith("coreai-opt")

    return sorted(read(name)["rows"], key=order)


def _minutes(row: dict[str, Any]) -> str:
    return f"{row['seconds'] / 60:.1f} min" if "seconds" in row else NONE
