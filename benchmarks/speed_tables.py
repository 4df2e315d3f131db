"""Tables of latency, the gate's error rates and memory, rendered from `benchmarks/results/`."""

from typing import Any

from benchmarks.tables import read
from mobilesam_export.tables import NONE, markdown

KINDS = {"a_a": "A/A", "slowdown_15": "15 % slower"}


def speed() -> str:
    """One line for each component, one column for each bundle: median and 90th percentile."""
    rows = [row for row in read("latency")["rows"] if row["latency"]]
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    cells = {(row["component"], row["subject"]): row for row in rows}
    components = list(dict.fromkeys(row["component"] for row in rows))
    lines = [
        [name.replace("_", " "), *(_times(cells[name, s]["latency"]) for s in subjects)]
        for name in components
    ]
    loads = [_median(cells["encoder", s]["load_ms"]) for s in subjects]
    lines.append(["encoder: load", *(f"{load:.0f}" for load in loads)])
    return markdown((["median (p90), ms", *subjects], lines))


def _times(latency: dict[str, Any]) -> str:
    return f"{_ms(latency['median_ms'])} ({_ms(latency['p90_ms'])})"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def gpu() -> str:
    """One line for each way to run it on a GPU, and one for each row that is no such way."""
    found = read("gpu")
    parts = ("encoder", "decoder", "click_to_mask")
    lines: dict[str, dict[str, str]] = {}
    for row in found["rows"]:
        time = f"{row['median_ms']:.2f} ms" + (" (wrong)" if row["wrong"] else "")
        rate = f", {row['images_per_s']:.0f} images/s" if "images_per_s" in row else ""
        if row["component"] in parts:
            lines.setdefault(row["subject"], {})[row["component"]] = time
        elif rate:
            lines[f"{row['subject']}, {row['component']}"] = {"encoder": time + rate}
    limits = {name: f"{item['limit_ms']:g} ms" for name, item in found["limits"].items()}
    lines["our limit"] = limits
    body = [[name, *(cells.get(part, "–") for part in parts)] for name, cells in lines.items()]
    return markdown((["", *(part.replace("_", " ") for part in parts)], body))


def gate() -> str:
    """One line for each component and kind of decision."""
    lines = []
    for name, item in read("gate_power")["components"].items():
        for kind, label in KINDS.items():
            for way in ("real", "simulated"):
                found = item[kind][way]
                verdicts = [str(found[v]) for v in ("slower", "same", "faster", "inconclusive")]
                low, high = found["ratios"]["min"], found["ratios"]["max"]
                runs = f"{found['decisions']} {way}"
                lines.append([f"{name}, {label}", runs, *verdicts, f"{low:.2f} to {high:.2f}"])
    head = ["", "decisions", "slower", "same", "faster", "inconclusive", "ratios seen"]
    return markdown((head, lines))


def prompt_sets() -> str:
    """One line for each file of prompt sets."""
    lines = [
        [
            f"{row['backend']}, N = {row['points']}, Q = {row['sets']}",
            f"{row['single_ms']:.0f} ms",
            f"{row['batch_ms']:.0f} ms",
            f"{row['ratio']:.2f} ({row['ratios'][0]:.2f} to {row['ratios'][-1]:.2f})",
            f"{row['logits_max_abs_error']:.1e}",
            f"{row['bytes'] / 1e6:.1f} MB",
        ]
        for row in read("prompt_sets")["rows"]
    ]
    head = ["", "decoder", "decoder_batch, a prompt", "median ratio", "logits apart", "size"]
    return markdown((head, lines))


def everything() -> str:
    """One line for each way to find all masks of a scene, the official generator first."""
    lines = [
        [
            way,
            f"{row['masks']:.1f}",
            f"{row['of_official']:.3f}",
            f"{row['in_official']:.3f}",
            f"{row['average_recall']:.3f}",
            f"{row['time_ratio']:.2f}",
        ]
        for way, row in read("official_generator")["means"].items()
    ]
    head = ["", "masks of a scene", "of the official ones found", "own ones that are official"]
    return markdown(([*head, "average recall", "time, of one call per point"], lines))


def beside(result: dict[str, Any] | None = None) -> str:
    """One line for each runtime and recipe; of `speed.json` by default."""
    lines: dict[str, dict[str, str]] = {}
    for row in (result or read("speed"))["rows"]:
        cells = lines.setdefault(f"{row['runtime']}, {row['recipe']}", {})
        ratio = f"; {row['ratio_to_naive']:.2f}" if "ratio_to_naive" in row else ""
        cells[row["graph"]] = f"{_ms(row['median_ms'])}{ratio}"
        if row["graph"] == "encoder":
            cells["size"] = f"{row['bytes'] / 1e6:.1f} MB"
            cells["embedding"] = f"{row['psnr_db']:.0f} dB" if "psnr_db" in row else NONE
            other = row.get("ratio_to_samexporter")
            cells["to samexporter"] = NONE if other is None else f"{other:.2f}"
    head = ["encoder", "to samexporter", "embedding", "size"]
    head += ["decoder", "prepare", "decoder_prepared"]
    body = [[label, *(cells.get(name, NONE) for name in head)] for label, cells in lines.items()]
    return markdown((["median ms; to naive", *head], body))


def rectangles() -> str:
    """One line for each kind of image, shape and margin: masks against the square's."""
    lines = [
        [
            f"{row['images']} {row['kind']}",
            row["shape"],
            str(row["margin"]),
            str(row["objects"]),
            *(f"{row[name]:.3f}" for name in ("click", "box", "worst")),
        ]
        for row in read("rectangles")["rows"]
        if "click" in row
    ]
    head = ["", "shape", "margin", "objects", "mask IoU, click", "box", "worst"]
    return markdown((head, sorted(lines)))


def rectangle_encoders() -> str:
    """One line for each target and shape: the encoder relative to the square's."""
    lines = [
        [
            row["kind"].replace("encoder ", "`") + "`",
            row["shape"],
            str(row["margin"]),
            f"{_ms(row['median_ms'])} ms",
            f"{row['time_ratio']:.3f}",
            f"{row['macs_ratio']:.3f}",
        ]
        for row in read("rectangles")["rows"]
        if "time_ratio" in row
    ]
    head = ["", "shape", "margin", "median", "time, of the square's", "MACs, of the square's"]
    return markdown((head, sorted(lines)))


def executorch() -> str:
    """One line for each encoder."""
    head = ["encoder", "size", "PSNR", "median", "to onnx, per round", "to tflite, per round"]
    lines = []
    for label, row in read("executorch")["files"].items():
        ratios = [f"{row[f'ratio_to_{other}']:.3f}" for other in ("onnx", "tflite")]
        size, psnr = f"{row['bytes'] / 1e6:.1f} MB", f"{row['psnr_db']:.1f} dB"
        lines.append([label, size, psnr, f"{_ms(row['median_ms'])} ms", *ratios])
    return markdown((head, lines))


def web(result: dict[str, Any] | None = None) -> str:
    """One line for each runtime, number of threads and recipe; of `web.json` by default."""
    graphs = ("encoder", "decoder", "prepare", "decoder_prepared")
    lines: dict[str, dict[str, str]] = {}
    for row in (result or read("web"))["rows"]:
        threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
        label = f"{row['runtime']}, {threads}, {row['recipe']}"
        lines.setdefault(label, {})[row["graph"]] = _web_cell(row)
    body = [[label, *(cells.get(graph, "") for graph in graphs)] for label, cells in lines.items()]
    return markdown((["ms; of a processor; to naive", *graphs], body))


def _web_cell(row: dict[str, Any]) -> str:
    if "refused" in row:
        return "refused"
    ratio = f"{row['ratio_to_naive']:.2f}" if "ratio_to_naive" in row else "–"
    return f"{_ms(row['median_ms'])}; {_ms(row['median_cpu_ms'])}; {ratio}"


def paper() -> str:
    """One line for each encoder of the run, then what the authors published."""
    result = read("paper_table")
    lines = []
    for name, row in result["encoders"].items():
        parameters = f"{row['parameters'] / 1e6:.1f} M" if "parameters" in row else "–"
        smaller = f" ({row['times_smaller']:g}x)" if row.get("times_smaller", 1) > 1 else ""
        fewer = f" ({row['times_fewer_macs']:g}x)" if row["times_fewer_macs"] > 1 else ""
        faster = f" ({row['times_faster']:g}x)" if row["times_faster"] > 1 else ""
        less = f" ({row['times_less_cpu']:g}x)" if row["times_less_cpu"] > 1 else ""
        lines.append(
            [
                name,
                parameters + smaller,
                f"{row['macs'] / 1e9:.1f} G{fewer}",
                f"{row['median_ms'] / 1e3:.2f} s{faster}",
                f"{row['median_cpu_ms'] / 1e3:.2f} s{less}",
            ]
        )
    for name, row in result["paper"].items():
        whole = "" if "encoder_ms" in row else ", whole model"
        parameters, ms = (
            row.get("encoder_parameters", row["parameters"]),
            row.get("encoder_ms", row["ms"]),
        )
        published = f"{name}, published{whole}"
        lines.append([published, f"{parameters / 1e6:.0f} M", "–", f"{ms} ms on one GPU", "–"])
    head = ["encoder", "parameters", "MACs", "median", "CPU time, all cores"]
    return markdown((head, lines))


def tflite(graph: str) -> str:
    """One line for each file of a graph: the naive conversion first, then our recipes."""
    head = ["", "size", "median", "to naive", "to naive, per round", "to float32"]
    head += ["memory: live", "arena", "process", "worst error"]
    lines = []
    for name, row in read("tflite_cpu")[graph].items():
        memory = [f"{row['memory'][way] / 1e6:.0f} MB" for way in ("live", "arena", "process")]
        kinds = ("ratio_to_naive", "round_ratio_to_naive", "ratio_to_float32")
        ratios = [f"{row[kind]:.3f}" for kind in kinds]
        error = " / ".join(f"{value:.1e}" for value in row["max_abs_errors"].values())
        size, median = f"{row['bytes'] / 1e6:.2f} MB", f"{_ms(row['median_ms'])} ms"
        lines.append([f"{graph}, {name}", size, median, *ratios, *memory, error])
    return markdown((head, lines))
