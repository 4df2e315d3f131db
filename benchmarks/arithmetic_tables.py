"""Tables of `results/arithmetic.json`: what the arithmetic of chips makes of the files."""

from typing import Any

from benchmarks.tables import mask_figures, read
from mobilesam_export.tables import NONE, markdown

Row = dict[str, Any]
COREAI = "Core AI"
EXACT = 999.0  # stands for infinity


def float16() -> str:
    """One line for each export of a float16 target: by its runtime here, and pessimistic."""
    rows = []
    for row in _rows():
        half = row["float16"]
        if half is not None and "processor" not in row and not row["weights"].startswith("heads"):
            rows.append(
                [
                    f"`{row['target']}:{row['recipe']}`",
                    str(row["size"]),
                    row["weights"],
                    f"{row['embedding_psnr_db']:.1f} dB",
                    f"{half['embedding_psnr_db']:.1f} dB",
                    f"{half['mask_iou']:.4f}",
                    f"{half['headroom']:.1f}, `{half['tensor']}`",
                ]
            )
    head = ["recipe", "size", "weights", "runtime here", "pessimistic", "mask IoU"]
    return markdown(([*head, "headroom"], sorted(rows, key=lambda cells: tuple(cells[:2]))))


def coreai() -> str:
    """Files of `coreai` by Apple's runtime, beside both modes of the interpreter on `coreml`'s."""
    rows = []
    for row in sorted(_rows(processor=COREAI), key=lambda row: (row["size"], row["recipe"])):
        key = {name: row[name] for name in ("weights", "recipe", "size")}
        ours = next(iter(_rows(processor=None, target="coreml", **key)), None)
        half = None if ours is None else ours["float16"]
        rows.append(
            [
                f"`{row['recipe']}`",
                str(row["size"]),
                row["weights"],
                f"{row['embedding_psnr_db']:.1f} dB",
                NONE if half is None else f"{half['embedding_psnr_db']:.1f} dB",
                NONE if ours is None else f"{ours['embedding_psnr_db']:.1f} dB",
                f"{row['mask_iou']:.4f}",
                f"{row['decoder_logits_max_abs_error']:.2g}",
            ]
        )
    head = ["recipe", "size", "weights", "Core AI", "interpreter, pessimistic", "interpreter, kind"]
    return markdown(([*head, "mask IoU", "logits of the decoder"], rows))


def coreai_ops() -> str:
    """One line for each operation: PSNR in Apple's arithmetic and in both of ours."""

    def cell(value: float | None) -> str:
        if value is None:
            return "not finite"
        return "exact" if value >= EXACT else f"{value:.1f} dB"

    names = ("coreai", "pessimistic", "kind")
    rows = [
        [row["operation"], *(cell(row[name]) for name in names)]
        for row in read("coreai_ops")["rows"]
    ]
    return markdown((["operation", "Core AI", "pessimistic", "kind"], rows))


def coreai_recipes() -> str:
    """One line for each recipe of `coreai`: size beside `coreml`, and masks by Apple's runtime."""
    beside = read("recipes")["recipes"]
    rows = []
    for row in read("coreai_recipes")["rows"]:
        ours, theirs = row["bytes"], beside[f"coreml:{row['recipe']}"]["bytes"]
        change = sum(ours.values()) / sum(theirs.values()) - 1
        rows.append(
            [
                f"`{row['recipe']}`",
                *(f"{ours[part] / 1e6:.1f} MB" for part in ("encoder", "decoder")),
                f"{change:+.1%}",
                *_masks(row),
                *_masks(row.get("coreml", {}))[:-1],
            ]
        )
    head = ["recipe", "encoder", "decoder", "beside `coreml`", "mask IoU, click", "box", "worst"]
    return markdown(([*head, "prompts", "`coreml`, click", "box", "worst"], rows))


def _masks(row: dict[str, Any]) -> list[str]:
    """Mean mask IoU by click and by box, the worst, of how many; dashes where none was asked."""
    if "mask_iou" not in row:
        return ["–"] * 4
    return [*mask_figures(row["mask_iou"]), f"{row['prompts']} at {row['image_size']}"]


def arm() -> str:
    """One line for each recipe: PSNR by the x86 build, and by the ARM build on both processors."""
    models = list(dict.fromkeys(row["processor"] for row in _rows() if _is_arm(row)))
    rows = []
    for target, recipe in dict.fromkeys((r["target"], r["recipe"]) for r in _rows() if _is_arm(r)):
        key = {"target": target, "recipe": recipe, "weights": "demo", "size": 256}
        cells = [_figures(processor=model, **key) for model in (None, *models)]
        rows.append([f"`{target}:{recipe}`", *cells])
    return markdown((["recipe", "x86 build", *(f"ARM, {model}" for model in models)], rows))


def heads() -> str:
    """One line for each recipe: PSNR of demo, and of weights whose channels are out of balance."""
    names = list(dict.fromkeys(r["weights"] for r in _rows() if r["weights"].startswith("heads")))
    rows = []
    for target, recipe in dict.fromkeys(
        (r["target"], r["recipe"]) for r in _rows() if r["weights"] in names
    ):
        key = {"target": target, "recipe": recipe, "processor": None, "size": 256}
        cells = [_figures(weights=weights, **key) for weights in ("demo", *names)]
        rows.append([f"`{target}:{recipe}`", *cells])
    return markdown((["recipe", "demo", *names], rows))


def _rows(**where: object) -> list[Row]:
    """The rows that have all of these values; None stands for a key that is not there."""
    found: list[Row] = read("arithmetic")["rows"]
    return [row for row in found if all(row.get(key) == value for key, value in where.items())]


def _is_arm(row: Row) -> bool:
    return row.get("processor") not in (None, COREAI)


def _figures(**where: object) -> str:
    row = next(iter(_rows(**where)), None)
    if row is None:
        return NONE
    failed = "" if row["status"] == "passed" else ", FAILED"
    return f"{row['embedding_psnr_db']:.1f} dB, {row['mask_iou']:.4f}{failed}"
