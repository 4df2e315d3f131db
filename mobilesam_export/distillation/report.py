"""A run for people: curves as a PNG, and a page with masks beside the teacher's."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.distillation.state import Log
from mobilesam_export.evaluation.report import COLUMNS, STYLE, Overlay, figure, html_table
from mobilesam_export.evaluation.scores import KINDS
from mobilesam_export.files import write_text, write_whole
from mobilesam_export.tables import NONE

SMOOTHED = 50  # parts of a run that the curve of losses averages over
WIDTH_IN, HEIGHT_IN = 11, 3.4


def write_plot(path: Path, log: Log) -> None:
    """Write the curves as a PNG.

    Raises:
        OutputError: it cannot be written.
    """
    with write_whole(path) as part:
        part.write_bytes(curves(log))


def write_page(path: Path, title: str, log: Log, overlays: Sequence[Overlay]) -> None:
    """Write one self-contained HTML page.

    Raises:
        OutputError: it cannot be written.
    """
    image = base64.b64encode(curves(log)).decode()
    problems = "".join(f"<li>{html.escape(item)}</li>" for item in log.problems)
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>{len(log.losses)} steps in {log.seconds / 60:.0f} minutes. Figures are of held-out "
        "images; a mask's IoU is with the teacher's mask for the same prompt.</p>"
        f'<img src="data:image/png;base64,{image}" alt="curves" style="max-width: 100%">'
        f"{html_table(epochs_table(log.epochs))}"
        + "<h2>Masks</h2>"
        + "".join(figure(overlay) for overlay in overlays)
        + (f"<h2>Left out</h2><ul>{problems}</ul>" if problems else "")
        + "</html>\n"
    )
    # File names may hold what UTF-8 cannot.
    write_text(path, page.encode("utf-8", "xmlcharrefreplace").decode("utf-8"))


def epochs_table(epochs: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Header and one row for each epoch, as text."""
    rows = [["epoch", "step", "loss", "embedding dB", "cosine", *(COLUMNS[k] for k in KINDS)]]
    for row in epochs:
        psnr, loss = row["embedding_psnr_db"], row["loss"]
        rows.append(
            [
                f"{row['epoch']:g}",
                str(row["step"]),
                NONE if loss is None else f"{loss:.4g}",
                NONE if psnr is None else f"{psnr:.2f}",
                f"{row['cosine']:.4f}",
                *(f"{row['iou'][k]:.3f}" if k in row["iou"] else NONE for k in KINDS),
            ]
        )
    return rows


def curves(log: Log) -> bytes:
    """Losses by step; figures of held-out images by step; a PNG."""
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    drawn = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    losses, embedding, masks = drawn.subplots(1, 3)
    losses.plot(*_smoothed(log.losses), color="#1e90ff")
    losses.set_yscale("log")
    steps = [row["step"] for row in log.epochs]
    embedding.plot(steps, [row["embedding_psnr_db"] or np.nan for row in log.epochs], "o-", ms=3)
    for kind in KINDS:
        values = [row["iou"].get(kind, np.nan) for row in log.epochs]
        masks.plot(steps, values, "o-", ms=3, label=COLUMNS[kind])
    masks.legend(fontsize=7, loc="lower right")
    titles = ("loss", "embedding, PSNR in dB", "masks, IoU with the teacher's")
    for panel, title in zip((losses, embedding, masks), titles, strict=True):
        panel.set_title(title, loc="left", fontsize=9)
        panel.set_xlabel("step", fontsize=8, loc="right")
        panel.tick_params(labelsize=8)
        panel.grid(lw=0.5, alpha=0.4)
    data = io.BytesIO()
    drawn.savefig(data, dpi=110, format="png")
    return data.getvalue()


def _smoothed(losses: Sequence[float]) -> tuple[list[float], list[float]]:
    """Steps and mean losses of about `SMOOTHED` equal parts of the run."""
    length = max(1, len(losses) // SMOOTHED)
    parts = [losses[i : i + length] for i in range(0, len(losses), length)]
    places = [i * length + len(part) / 2 for i, part in enumerate(parts)]
    return places, [float(np.mean(part)) for part in parts]
