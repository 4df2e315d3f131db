"""Tables of accuracy, sizes and graphs, rendered from `benchmarks/results/` and `targets/`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilesam_export.tables import NONE, markdown
from mobilesam_export.target import Recipe, Target, builtin_targets, load_target

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# What runs the files of each backend during an export.
VERIFIED_BY = {
    "coreai": "Core AI on CPU",
    "coreml": "MIL interpreter; on a Mac, Core ML",
    "executorch": "ExecuTorch with XNNPACK",
    "onnx": "ONNX Runtime on CPU",
    "tflite": "LiteRT with XNNPACK",
}
# What a user ships to, and what to export for it.
CHOICES = (
    ("iPhone, iPad, Mac", "coreml", "float16"),
    ("the same, smallest download", "coreml", "w4-palettized"),
    ("Android, CPU", "tflite", "w8-dynamic"),
    ("Android, GPU", "tflite-gpu", "float16"),
    ("desktop, server, web", "onnx", "float32"),
    ("the same, CPU only", "onnx", "w8-dynamic"),
    ("tools written for SAM's ONNX files", "onnx-sam", "float32"),
)
# Older GPU runtimes add attention's bias wrongly (LiteRT#8593); the files themselves are older.
GPU_NEEDS = "LiteRT 2.1.6"
FORMS = {"export_form": "ours", "official_form": "official"}


def read(name: str) -> Any:  # noqa: ANN401 what a file of results holds
    """The content of `results/<name>.json`."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def replace_row(path: Path, row: dict[str, Any], names: Sequence[str]) -> None:
    """Put a row into a file of rows, in the place of the one with the same values of `names`."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    same = [row.get(name) for name in names]
    kept = [other for other in rows if [other.get(name) for name in names] != same]
    path.write_text(json.dumps({"rows": [*kept, row]}, indent=1) + "\n", encoding="utf-8")


def mask_figures(found: Mapping[str, Mapping[str, float]], digits: int = 4) -> list[str]:
    """Mean mask IoU of each kind of prompt, with so many digits, and the worst of all."""
    means = [f"{kind['mean']:.{digits}f}" for kind in found.values()]
    return [*means, f"{min(kind['min'] for kind in found.values()):.3f}"]


def choices() -> str:
    """What to export for what: size and mask IoU against PyTorch."""
    measured = read("recipes")["recipes"]
    rows = []
    for shipped_to, target, recipe in CHOICES:
        row, loaded = measured[f"{target}:{recipe}"], load_target(target)
        default = " (default)" if recipe == loaded.default_recipe else ""
        iou = " / ".join(f"{row['mask_iou'][kind]['mean']:.3f}" for kind in ("click", "box"))
        gpu = loaded.graph.layout == "batch-one"
        needs = GPU_NEEDS if gpu else _needs(loaded, loaded.recipes[recipe])
        size = f"{sum(row['bytes'].values()) / 1e6:.0f} MB"
        rows.append([shipped_to, f"`{target}`", f"`{recipe}`{default}", needs, size, iou])
    head = ["for", "target", "recipe", "needs", "size", "mask IoU, click / box"]
    return markdown((head, rows))


def targets() -> str:
    """One line for each target: what it is for, and what runs its files at each export."""
    loaded = [load_target(name) for name in builtin_targets()]
    rows = [
        [f"`{t.name}`", t.description, f"`{t.default_recipe}`", VERIFIED_BY[t.backend]]
        for t in loaded
    ]
    return markdown((["target", "for", "default recipe", "verified by"], rows))


def recipes() -> str:
    """One line for each target and recipe: size, latency, and masks held to PyTorch's."""
    result = read("recipes")
    rows = []
    for label, row in result["recipes"].items():
        target, _, recipe = label.partition(":")
        loaded = load_target(target)
        name = f"`{recipe}` (default)" if row["default"] else f"`{recipe}`"
        sizes = [f"{row['bytes'][part] / 1e6:.1f} MB" for part in ("encoder", "decoder")]
        needs = _needs(loaded, loaded.recipes[recipe])
        latency = _latency(result["latency"].get(label), loaded.backend)
        rows.append([f"`{target}`", name, needs, *sizes, latency, *_mask_iou(row)])
    head = ["target", "recipe", "needs", "encoder", "decoder", "encoder latency"]
    return markdown(([*head, "mask IoU, click", "box", "worst", "collapse guard"], rows))


def _needs(target: Target, recipe: Recipe) -> str:
    """The least runtime that was run; else the least system or operator set of [convert]."""
    if recipe.runtime is not None:
        return f"{recipe.runtime.name} {recipe.runtime.minimum}"
    options = target.options(recipe)
    parts = [v if isinstance(v, str) else f"{key} {v}" for key, v in options.items()]
    return ", ".join(parts) or NONE


def _latency(measured: dict[str, Any] | None, backend: str) -> str:
    """The ratio to float32 of the same target, or why there is none."""
    if measured is not None:
        return f"{measured['ratio']:.2f}"
    return "no runtime here" if backend == "coreml" else "not measured"


def _mask_iou(row: dict[str, Any]) -> list[str]:
    """Mean of clicks and of boxes, the worst of both, and the collapse guard's verdict."""
    if "mask_iou" not in row:
        return ["unverified"] * 4
    return [*mask_figures(row["mask_iou"], digits=3), row["collapse_guard"]]


def parity() -> str:
    """Largest errors on the golden vectors of the official implementation."""
    rows = [[name, *_errors(row)] for name, row in read("parity").items()]
    return markdown((["", "embedding", "mask logits", "predicted IoU", "mask IoU"], rows))


def interpreter() -> str:
    """The MIL interpreter against ONNX Runtime, and its processor time against PyTorch's."""
    measured, ratio = read("interpreter_parity"), read("interpreter_time")["ratio"]
    rows = [[f"`{name}`", *_errors(measured[name]), NONE] for name in ("seeded", "demo")]
    rows[0][-1] = f"{ratio:.1f}"  # measured on the seeded weights
    head = ["weights", "embedding", "mask logits", "predicted IoU", "mask IoU"]
    return markdown(([*head, "encoder time, of PyTorch's"], rows))


def _errors(row: dict[str, Any]) -> list[str]:
    kinds = ("embedding", "logits", "iou")
    return [*(f"{row[f'{kind}_max_abs_error']:.1e}" for kind in kinds), f"{row['mask_iou']:.5f}"]


def webgpu() -> str:
    """One line for each output of the files that ran in LiteRT's WebGPU delegate."""
    rows = []
    for graph, row in read("webgpu")["files"].items():
        taken = f"{row['ops_on_gpu']} of {row['ops']}"
        for name, error in row["max_abs_error"].items():
            largest = row["largest_value"][name]
            rows.append([graph, taken, f"`{name}`", f"{error:.1e}", f"{largest:g}"])
    return markdown((["", "ops on the GPU", "output", "largest error", "largest value"], rows))


def web_page() -> str:
    """One line for each thing that is done on the page: the main thread's longest task."""
    longest = read("web_page")["longest_task_ms"]
    rows = [[name, f"{ms:.0f} ms" if ms else "under 50 ms"] for name, ms in longest.items()]
    return markdown((["", "longest task of the main thread"], rows))


def runtimes() -> str:
    """One line for each recipe: which versions of runtimes compute it, and which refuse it."""
    rows = []
    for recipe, answers in read("runtimes")["recipes"].items():
        named = [_versions(answers, verdict) for verdict in ("right", "refused")]
        right = [answer for answer in answers.values() if answer["verdict"] == "right"]
        embedding = min(answer["encoder"]["embedding_psnr_db"] for answer in right)
        mask_iou = min(answer["decoder"]["mask_iou"] for answer in right)
        rows.append([f"`{recipe}`", *named, f"{embedding:.1f} dB, {mask_iou:.4f}"])
    return markdown((["recipe", "right on", "refused by", "least embedding PSNR, mask IoU"], rows))


def _versions(answers: Mapping[str, dict[str, Any]], verdict: str) -> str:
    """The versions with this verdict, by package; a dash for none."""
    versions: dict[str, list[str]] = {}
    for name, answer in answers.items():
        if answer["verdict"] == verdict:
            package, _, version = name.partition("==")
            versions.setdefault(package, []).append(version)
    return "; ".join(f"{name} {', '.join(items)}" for name, items in versions.items()) or NONE


def damaged_inputs() -> str:
    """One line for each kind of damaged file: how reading it ended."""
    outcomes = read("damaged_inputs")["outcomes"]
    names = list(next(iter(outcomes.values())))
    rows = [
        [kind, f"{sum(found.values()):,}", *(f"{found[name]:,}" for name in names)]
        for kind, found in outcomes.items()
    ]
    return markdown((["kind", "files", *names], rows))


def samexporter() -> str:
    """Our mask from samexporter's clients, each run on `onnx-sam` files."""
    measured = read("samexporter_client")
    rows = [[name, f"{iou:.4f}"] for name, iou in measured["mask_iou"].items()]
    return markdown((["client", f"mask IoU on {measured['image']}"], rows))


def export_cost() -> str:
    """Longest wall time and largest memory of whole runs of the program."""
    rows = [
        [f"`{name}`", f"{max(run['seconds']):.1f} s", f"{max(run['peak_gb']):.1f} GB"]
        for name, run in read("export_cost")["runs"].items()
    ]
    return markdown((["command", "time", "peak memory"], rows))


def demo_quality() -> str:
    """Mean IoU with the scenes' own masks, by kind of prompt."""
    kinds = ("click_best", "click", "clicks", "box", "box_boundary")
    rows = [
        [run, str(row["objects"]), name, *(f"{row['mean'][kind]:.3f}" for kind in kinds)]
        for run, result in read("demo_quality").items()
        if run != "command"
        for name, row in result["candidates"].items()
    ]
    head = ["scenes", "objects", "files", "click, best of 3", "click, as chosen", "3 clicks"]
    return markdown(([*head, "box", "box, boundary"], rows))


def coreml_graph() -> str:
    """Our Core ML graphs beside coremltools' conversion of the official code."""
    counted = read("coreml_graph")
    rows = []
    for graph in ("encoder", "decoder"):
        for form, label in FORMS.items():
            row = counted[graph][form]
            verdicts = row["residency_by_rules"]
            rows.append(
                [
                    f"{graph}, {label}",
                    str(row["ops"]),
                    str(row["data_movement_ops"]),
                    f"{row['macs'] / 1e9:.2f} G",
                    f"{row['peak_activation_bytes'] / 1e6:.1f} MB",
                    str(row["largest_rank"]),
                    f"{row['longest_axis']:,}",
                    f"{verdicts['not resident']}, {verdicts['at risk']}",
                ]
            )
    head = ["", "ops", "data movement", "MACs", "peak memory", "largest rank", "longest axis"]
    return markdown(([*head, "not resident, at risk"], rows))


def inspect() -> str:
    """What `inspect` says of our float16 Core ML encoder."""
    text = read("coreml_graph")["encoder"]["export_form"]["text"]
    return "\n".join(["```", *text, "```"])
