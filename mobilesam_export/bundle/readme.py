"""The README of a bundle: everything an app developer needs who has only that folder.

Text comes from `templates/`: `README.md` for all bundles, `<backend>-<prompt>.md` for the code,
with `-gpu` behind that where the form of the graphs is for GPUs. The first paragraph of the code's
template says what the files need, and stands at the top.
"""

from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from mobilesam_export.backends import get_backend
from mobilesam_export.inspection.memory import find_peak

SIZE_UNITS = 1e6  # MB as disks and app stores count


def readme(folder: Path, manifest: dict[str, Any]) -> str:
    """Fill the template from the manifest and the files that lie in `folder`."""
    contract, checkpoint = manifest["contract"], manifest["checkpoint"]
    form = contract["form"]
    values = {
        "target": manifest["target"],
        "recipe": manifest["recipe"]["name"],
        "version": manifest["versions"]["mobilesam-export"],
        "side": str(contract["image_size"]),
        "quarter": str(contract["image_size"] // 4),
        "points": str(contract["points"]),
        "files": _files(folder, manifest["backend"]),
        "encoder": _table(contract["encoder"]),
        "decoder": _table(contract["decoder"]),
        "verification": _verification(manifest["verification"]),
        "source": checkpoint["source"],
        "license": checkpoint["license"],
        "weights_sha256": checkpoint["weights_sha256"],
        **{key: str(value) for key, value in manifest["convert"].items()},
        "warning": _warning(checkpoint),
    }
    code = f"{manifest['backend']}-{form['prompt']}"
    if manifest["backend"] == "tflite" and form["pixels"] == "float32":  # what GPU delegates take
        code += "-gpu"
    text = Template(_template(f"{code}.md")).substitute(values)
    values["requirements"], _, values["code"] = text.partition("\n\n")
    values["prompting"] = Template(_template(f"prompting-{form['prompt']}.md")).substitute(values)
    return Template(_template("README.md")).substitute(values)


def artifact_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each graph's file, or folder of files, in a bundle; the encoder's first."""
    return {
        path.name: sum(f.stat().st_size for f in (path, *path.rglob("*")) if f.is_file())
        for graph in ("encoder", "decoder")
        for path in folder.glob(f"{graph}.*")
    }


def _warning(checkpoint: dict[str, Any]) -> str:
    """What to know of weights that are not meant for products."""
    if not checkpoint["trained"]:
        return _template("untrained.md")
    return _template("demo.md") if checkpoint["source"] == "demo" else ""


def _template(name: str) -> str:
    folder = resources.files("mobilesam_export.bundle") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _files(folder: Path, backend: str) -> str:
    rows = [
        f"| `{name}` | {size / SIZE_UNITS:.1f} MB | {_peak_memory(folder / name, backend)} |"
        for name, size in artifact_sizes(folder).items()
    ]
    note = (
        "Activation memory is counted, not measured: the largest sum of tensors that must be held\n"
        "at once, without weights and without what a runtime saves by fusion or in-place ops."
    )
    head = ["| file | size | peak activation memory |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows, "", note])


def _peak_memory(path: Path, backend: str) -> str:
    peak = find_peak(get_backend(backend).describe(path))
    return (
        f"{peak.bytes / SIZE_UNITS:.1f} MB" if not peak.unknown else "depends on the input's size"
    )


def _table(spec: dict[str, Any]) -> str:
    rows = [
        f"| {kind} | `{t['name']}` | ({', '.join(str(a) for a in t['shape'])}) "
        f"| {t['dtype']} | {t['meaning']} |"
        for kind, tensors in (("in", spec["inputs"]), ("out", spec["outputs"]))
        for t in tensors
    ]
    return "\n".join(
        ["| | name | shape | type | meaning |", "| --- | --- | --- | --- | --- |", *rows]
    )


def _verification(report: dict[str, Any]) -> str:
    if report["status"] == "unverified":
        return (
            f"**Unverified**: {report['reason']}.\nThese files have not been run; check them with "
            "`golden/` before you rely on them."
        )
    worst = min(item["mask_iou"] for item in report["prompts"])
    logits = max(item["logits_max_abs_error"] for item in report["prompts"])
    limits = ""
    if report["runtime"].startswith("evaluator"):
        limits = (
            "\nNo chip has run these files. This project's MIL interpreter ran the saved program "
            "op\nby op, rounded to the types that it declares. It is not bit-exact with any device "
            "and\nsays nothing about speed: compare a device with `golden/`."
        )
    return (
        f"**{report['status'].capitalize()}** with {report['runtime']} against PyTorch in float32\n"
        f"on {len(report['embeddings'])} images and {len(report['prompts'])} prompts: mask IoU at "
        f"least {worst:.4f}, mask logits at most {logits:.1e} apart.\nEvery figure is in "
        f"`manifest.json`.{limits}"
    )
