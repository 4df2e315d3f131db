"""Tables of distillation and of recovery."""

from statistics import median
from typing import Any

from benchmarks.tables import read
from mobilesam_export.tables import markdown

HEAD = [
    *("weights", "recipe", "size", "trained", "embedding, dB"),
    *("encoder: mask IoU", "won back", "both files", "won back"),
]


def distillation() -> str:
    """Held-out figures of runs of `distill`, at their start and after their last epoch."""
    kinds = ("click_best", "click", "clicks", "box")
    rows = []
    for name, run in read("distillation").items():
        for row in (run["epochs"][0], run["epochs"][-1]):
            figures = [f"{row['iou'][kind]:.3f}" for kind in kinds]
            psnr = f"{row['embedding_psnr_db']:.1f} dB"
            rows.append([name, str(row["step"] * run["batch"]), psnr, *figures])
    head = ["run", "images seen", "embedding", "click, best of 3", "click, as chosen"]
    return markdown(([*head, "3 clicks", "box"], rows))


def decoupled() -> str:
    """The three ways of the paper after each quarter of the steps: mean IoU of four prompts."""
    ways = read("decoupled")["ways"]
    marks = [row["step"] for row in next(iter(ways.values()))][::2]
    lines = []
    for name, rows in ways.items():
        means = {row["step"]: f"{row['mean_iou']:.3f}" for row in rows}
        last = rows[-1]
        lines.append(
            [
                name,
                *(means[mark] for mark in marks),
                f"{last['iou']['box']:.3f}",
                f"{last['embedding_psnr_db']:.1f} dB",
                f"{last['seconds']:.0f} s",
            ]
        )
    head = ["", *(f"step {mark}" for mark in marks)]
    return markdown(([*head, "box", "embedding", "processor time of training"], lines))


def distillation_speed() -> str:
    """Ratios with what they are of."""
    found = read("distillation_speed")
    cache, processes = found["cache"], found["processes"]
    ratios = processes["ratios"]
    filling = f"{cache['filling_s']:.1f} s, then {cache['reading_s']:.1f} s"
    rows = [
        ["an epoch from the cache, teacher SAM ViT-B", filling, f"{cache['ratio']:.1f} times"],
        [
            "two processes, images per second",
            " and ".join(f"{median(rates):.1f}" for rates in processes["images_per_s"].values()),
            f"{processes['ratio']:.2f} times ({min(ratios):.2f} to {max(ratios):.2f})",
        ],
    ]
    return markdown((["at 256 on two cores", "measured", "faster by"], rows))


def student() -> str:
    """Encoders of a student beside its teacher's."""
    rows = [
        [
            f"`{label}`",
            f"{row['bytes'] / 1e6:.1f} MB",
            f"{row['bytes_ratio']:.2f}",
            f"{row['median_ms']:.0f} ms",
            f"{row['time_ratio']:.2f}",
        ]
        for label, row in read("student")["encoders"].items()
    ]
    head = ["encoder", "size", "of the teacher's", "median", "of the teacher's, per round"]
    return markdown((head, rows))


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


def noise() -> str:
    """One line for each recipe: what both roundings leave, and each by itself."""
    rows = []
    for row in read("recovery_noise")["rows"]:
        found = row["embedding_psnr_db"]
        cells = [f"`{row['recipe']}`"]
        for part in ("both", "weights", "activations"):
            cells.append("exact" if found[part] is None else f"{found[part]:.1f} dB")
        rows.append([*cells, f"{10 ** ((found['both'] - found['weights']) / 10):.0%}"])
    head = ["recipe", "weights and activations", "weights alone", "activations alone"]
    return markdown(([*head, "noise from weights"], rows))


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
