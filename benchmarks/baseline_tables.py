"""The table of `benchmarks.baselines`."""

from benchmarks.tables import read
from mobilesam_export.tables import NONE, markdown

TOOLS = {
    "nncf": "NNCF, with accuracy control",
    "aimet": "AIMET, SeqMSE and AdaRound",
    "aimet-mixed": "AIMET, mixed precision (8 and 16 bits)",
}


def baselines() -> str:
    """One line for each encoder: mask IoU by click and box, size, latency beside float32."""
    lines = []
    for row in read("baselines")["rows"]:
        name = TOOLS.get(row["encoder"], f"`onnx` {row['encoder']}")
        name += ", fitted" if row.get("fitted") else ""
        minutes = f"{row['seconds'] / 60:.1f} min" if "seconds" in row else NONE
        if "error" in row:
            lines.append([row["weights"], name, row["error"], NONE, NONE, NONE, minutes])
            continue
        means = [f"{row['mask_iou'][kind]['mean']:.4f}" for kind in ("click", "box")]
        worst = min(kind["min"] for kind in row["mask_iou"].values())
        size, ratio = f"{row['bytes'] / 1e6:.1f} MB", f"{row['latency_ratio']:.2f}"
        lines.append([row["weights"], name, *means, f"{worst:.3f}", size, ratio, minutes])
    head = ["weights", "encoder", "click", "box", "worst", "size", "of float32's time"]
    return markdown(([*head, "processor time"], lines))
