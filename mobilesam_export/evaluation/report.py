"""An evaluation as one self-contained HTML file: tables, plots, and examples of masks."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from mobilesam_export.evaluation.scores import BINS, Evaluation, Score
from mobilesam_export.tables import NONE

COLUMNS = {
    "click_best": "click, best of 3",
    "click": "click, as chosen",
    "clicks": "3 clicks",
    "box": "box",
    "click_boundary": "click, boundary",
    "box_boundary": "box, boundary",
    "stability": "stability",
}
PALETTE = ("#1e90ff", "#e4572e", "#2e933c", "#8f3985", "#b8860b", "#444")
THUMBNAIL = 320
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .3rem .7rem; border-bottom: 1px solid #ddd }
td { text-align: right; font-variant-numeric: tabular-nums } td:first-child { text-align: left }
figure { display: inline-block; margin: .4rem } figcaption { font-size: 13px; color: #555 }
svg text { font: 11px system-ui, sans-serif; fill: #333 }
"""


@dataclass(frozen=True)
class Overlay:
    """An image with one candidate's mask drawn on it."""

    caption: str
    image: Image.Image


def figures_table(evaluation: Evaluation, sizes: Mapping[str, int]) -> list[list[str]]:
    """Header and one row for each candidate, as text."""
    header = ["", *COLUMNS.values(), "MB", "encoder ms", "decoder ms"]
    rows = [header]
    for name, score in evaluation.scores.items():
        means, latency = score.means(), score.latency()
        figures = [f"{means[key]:.3f}" if key in means else NONE for key in COLUMNS]
        size = f"{sizes[name] / 1e6:.1f}" if sizes[name] else NONE
        times = [
            f"{latency[key]:.0f}" if key in latency else NONE for key in ("encoder", "decoder")
        ]
        rows.append([name, *figures, size, *times])
    return rows


def render(
    title: str, evaluation: Evaluation, sizes: Mapping[str, int], overlays: Sequence[Overlay]
) -> str:
    """The whole page.

    Args:
        title: what was evaluated on what.
        evaluation: with an image at least.
        sizes: bytes of each candidate.
        overlays: images to show.
    """
    images = "".join(figure(overlay) for overlay in overlays)
    problems, notes = (
        "".join(f"<li>{html.escape(item)}</li>" for item in items)
        for items in (evaluation.problems, evaluation.notes)
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>Mean IoU over {max(s.objects for s in evaluation.scores.values())} objects on "
        f"{evaluation.images} images. Times are medians of this run on this machine, with "
        "whatever else it did.</p>"
        f"{html_table(figures_table(evaluation, sizes))}"
        f"<h2>IoU of one click, as chosen</h2>{_histograms(evaluation)}"
        f"<h2>Quality, latency, size</h2>{_scatter(evaluation, sizes)}"
        + (f"<h2>Masks</h2>{images}" if images else "")
        + (f"<h2>Notes</h2><ul>{notes}</ul>" if notes else "")
        + (f"<h2>Left out</h2><ul>{problems}</ul>" if problems else "")
        + "</html>\n"
    )
    # File names may hold what UTF-8 cannot.
    return page.encode("utf-8", "xmlcharrefreplace").decode("utf-8")


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """A table, as HTML; the first row is its head."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows[1:]
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _histograms(evaluation: Evaluation) -> str:
    parts = []
    for color, (name, score) in zip(_colors(evaluation), evaluation.scores.items(), strict=True):
        most = max(1, int(score.histogram.max()))
        bars = "".join(
            f'<rect x="{index * 14}" y="{100 - 100 * count / most:.1f}" width="12" '
            f'height="{100 * count / most:.1f}" fill="{color}"><title>{count}</title></rect>'
            for index, count in enumerate(score.histogram.tolist())
        )
        parts.append(
            f'<figure><svg width="{BINS * 14}" height="118" role="img">{bars}'
            f'<text x="0" y="115">0</text><text x="{BINS * 14 - 8}" y="115">1</text></svg>'
            f"<figcaption>{html.escape(name)}</figcaption></figure>"
        )
    return "".join(parts)


def _scatter(evaluation: Evaluation, sizes: Mapping[str, int]) -> str:
    """Encoder latency to the right, quality upwards, area by size."""
    width, height, margin = 620, 320, 48
    times = {name: _per_image_ms(score) for name, score in evaluation.scores.items()}
    quality = {name: score.means()["box"] for name, score in evaluation.scores.items()}
    longest, largest = max(times.values()) * 1.1, max(*sizes.values(), 1)
    low = min(quality.values()) - 0.02
    span = max(quality.values()) + 0.02 - low
    marks = []
    for color, name in zip(_colors(evaluation), evaluation.scores, strict=True):
        x = margin + (width - 2 * margin) * times[name] / longest
        y = height - margin - (height - 2 * margin) * (quality[name] - low) / span
        radius = 4 + 14 * (sizes[name] / largest) ** 0.5
        marks.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{radius:.1f}" fill="{color}" '
            f'fill-opacity=".55"/><text x="{x + radius + 3:.0f}" y="{y + 4:.0f}">'
            f"{html.escape(name)}</text>"
        )
    axes = (
        f'<path d="M{margin} {margin} V{height - margin} H{width - margin}" fill="none" '
        f'stroke="#999"/><text x="{width - margin}" y="{height - 30}" text-anchor="end">encoder, '
        f"0 to {longest:.0f} ms</text>"
        f'<text x="{margin}" y="{margin - 8}">mean IoU of boxes, '
        f"{low:.3f} to {low + span:.3f}; area: size of the files</text>"
    )
    return f'<svg width="{width}" height="{height}" role="img">{axes}{"".join(marks)}</svg>'


def _per_image_ms(score: Score) -> float:
    """Of the encoder, or of a file that is both."""
    latency = score.latency()
    return latency.get("encoder", latency["decoder"])


def _colors(evaluation: Evaluation) -> list[str]:
    return [PALETTE[index % len(PALETTE)] for index in range(len(evaluation.scores))]


def figure(overlay: Overlay) -> str:
    """An image and its caption, as HTML."""
    image = overlay.image.convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    base64_text = base64.b64encode(data.getvalue()).decode()
    caption = html.escape(overlay.caption)
    return (
        f'<figure><img src="data:image/jpeg;base64,{base64_text}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
