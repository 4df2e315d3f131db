"""The README of a bundle: everything an app developer needs who has only that folder.

What all bundles say is in `templates/`; the code for one format, by the form of its graphs, is in
the backend's own folder (`Backend.templates`). Its first paragraph says what the files need, and
stands at the top.
"""

import textwrap
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from mobilesam_export.backends import Backend, get_backend
from mobilesam_export.errors import BackendError
from mobilesam_export.inspection.memory import find_peak
from mobilesam_export.target import GraphForm

SIZE_UNITS = 1e6  # MB as disks and app stores count
WIDTH = 100


def find_template(backend: Backend, form: GraphForm) -> Path:
    """The backend's text for graphs of this form: PROMPT-LAYOUT.md, else PROMPT.md.

    Raises:
        BackendError: it has neither.
    """
    folder = backend.templates()
    names = (f"{form.prompt}-{form.layout}.md", f"{form.prompt}.md")
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise BackendError(
            f"there is no text for the README of a bundle with prompt = {form.prompt!r}: expected "
            f"{' or '.join(names)} in {folder}"
        )
    return found


def readme(folder: Path, manifest: dict[str, Any]) -> str:
    """Fill the template from the manifest and the files that lie in `folder`."""
    contract, checkpoint = manifest["contract"], manifest["checkpoint"]
    backend, form = get_backend(manifest["backend"]), GraphForm(**contract["form"])
    values = {
        "target": manifest["target"],
        "recipe": manifest["recipe"]["name"],
        "version": manifest["versions"]["mobilesam-export"],
        "side": str(contract["image_size"]),
        "quarter": str(contract["image_size"] // 4),
        "points": str(contract["points"]),
        "files": _files(folder, backend),
        "encoder": _table(contract["encoder"]),
        "decoder": _table(contract["decoder"]),
        "verification": _verification(manifest["verification"]),
        "source": checkpoint["source"],
        "license": checkpoint["license"],
        "weights_sha256": checkpoint["weights_sha256"],
        **{key: str(value) for key, value in manifest["convert"].items()},
        "warning": _warning(checkpoint),
    }
    code = Template(find_template(backend, form).read_text(encoding="utf-8")).substitute(values)
    values["requirements"], _, values["code"] = code.partition("\n\n")
    values["prompting"] = Template(_template(f"prompting-{form.prompt}.md")).substitute(values)
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


def _files(folder: Path, backend: Backend) -> str:
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


def _peak_memory(path: Path, backend: Backend) -> str:
    peak = find_peak(backend.describe(path))
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
        return _lines(
            f"**Unverified**: {report['reason']}. These files have not been run; check them with "
            "`golden/` before you rely on them."
        )
    worst = min(item["mask_iou"] for item in report["prompts"])
    logits = max(item["logits_max_abs_error"] for item in report["prompts"])
    text = _lines(
        f"**{report['status'].capitalize()}** with {report['runtime']} against PyTorch in float32 "
        f"on {len(report['embeddings'])} images and {len(report['prompts'])} prompts: mask IoU at "
        f"least {worst:.4f}, mask logits at most {logits:.1e} apart. Every figure is in "
        "`manifest.json`."
    )
    if not report["note"]:
        return text
    note = str(report["note"])
    return f"{text}\n{_lines(f'{note[0].upper()}{note[1:]}. Compare a device with `golden/`.')}"


def _lines(text: str) -> str:
    """One sentence or more in lines of a readable width."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
