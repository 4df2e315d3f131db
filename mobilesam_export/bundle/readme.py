"""The README of a bundle: everything an app developer needs who has only that folder.

Text comes from `templates/`: `README.md` for all bundles, `<backend>-<prompt>.md` for the code,
with `-gpu` behind that where the form of the graphs is for GPUs.
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
    if (
        manifest["backend"] == "tflite" and form["image_input"] == "float32"
    ):  # what GPU delegates take
        code += "-gpu"
    values["code"] = Template(_template(f"{code}.md")).substitute(values)
    values["prompting"] = Template(_template(f"prompting-{form['prompt']}.md")).substitute(values)
    return Template(_template("README.md")).substitute(values)


def artifact_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each graph's file, or folder of files, in a bundle."""
    return {
        path.name: sum(f.stat().st_size for f in (path, *path.rglob("*")) if f.is_file())
        for path in sorted(folder.iterdir())
        if path.stem in ("encoder", "decoder")
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
        "Activation memory is counted, not measured: what must be held at the worst moment,\n"
        "without weights and without what a runtime saves by fusing or computing in place."
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
            f"**Unverified**: {report['reason']}. Nobody has run these files yet; check them with "
            "`golden/` before you rely on them."
        )
    worst = min(item["mask_iou"] for item in report["prompts"])
    logits = max(item["logits_max_abs_error"] for item in report["prompts"])
    limits = ""
    if report["runtime"].startswith("evaluator"):
        limits = (
            " No chip has run these files: the evaluator computes the saved program operation by "
            "operation, in the number formats that it declares, and says nothing about the speed "
            "or the kernels of a device. Check them on one with `golden/`."
        )
    return (
        f"**{report['status'].capitalize()}** with {report['runtime']} against PyTorch in float32 "
        f"on {len(report['embeddings'])} pictures and {len(report['prompts'])} prompts: mask IoU "
        f"at least {worst:.4f}, mask logits at most {logits:.1e} apart. Every figure is in "
        f"`manifest.json`.{limits}"
    )
