"""The README of a bundle: everything an app developer needs who has only that folder.

What all bundles say is in `templates/`; the code for one format, by the form of its graphs, is in
the backend's own folder (`Backend.templates`). Its first paragraph says what the files need, and
stands at the top.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from mobilesam_export.backends import Backend, get_backend
from mobilesam_export.bundle.contents import Contents
from mobilesam_export.checkpoint.provenance import Provenance
from mobilesam_export.contract import GraphSpec
from mobilesam_export.errors import BackendError
from mobilesam_export.inspection.memory import find_peak
from mobilesam_export.target import GraphForm
from mobilesam_export.verification.status import Status
from mobilesam_export.verification.verify import Report

SIZE_UNITS = 1e6  # MB as disks and app stores count
WIDTH = 100


@dataclass(frozen=True)
class GraphFile:
    """What the README says of an encoder or a decoder.

    Attributes:
        name: of the file, or of the folder that stands for one.
        bytes: of all of it.
        peak_bytes: of activations at the worst moment; None where that depends on the input.
    """

    name: str
    bytes: int
    peak_bytes: int | None


def graph_files(folder: Path, backend_name: str) -> tuple[GraphFile, ...]:
    """Look into the encoder and the decoder that lie in `folder`."""
    backend, found = get_backend(backend_name), []
    for name, size in artifact_sizes(folder).items():
        peak = find_peak(backend.describe(folder / name))
        found.append(GraphFile(name, size, None if peak.unknown else peak.bytes))
    return tuple(found)


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


def readme(contents: Contents, graphs: Sequence[GraphFile]) -> str:
    """Fill the template.

    Args:
        contents: of the bundle.
        graphs: its encoder and its decoder, from `graph_files`.
    """
    target, contract = contents.target, contents.contract
    provenance, form = contents.checkpoint.provenance, contents.contract.form
    values = {
        "target": target.name,
        "recipe": contents.recipe_name,
        "version": contents.versions["mobilesam-export"],
        "side": str(contract.image_size),
        "quarter": str(contract.image_size // 4),
        "points": str(contract.points),
        "files": _files(graphs),
        "encoder": _table(contract.encoder),
        "decoder": _table(contract.decoder),
        "verification": _verification(contents.report),
        "source": provenance.source,
        "license": provenance.license,
        "weights_sha256": provenance.weights_sha256,
        **{key: str(value) for key, value in contents.convert.items()},
        "warning": _warning(provenance),
    }
    template = find_template(get_backend(target.backend), form)
    code = Template(template.read_text(encoding="utf-8")).substitute(values)
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


def _warning(provenance: Provenance) -> str:
    """What to know of weights that are not meant for products."""
    if not provenance.trained:
        return _template("untrained.md")
    return _template("demo.md") if provenance.source == "demo" else ""


def _template(name: str) -> str:
    folder = resources.files("mobilesam_export.bundle") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _files(graphs: Sequence[GraphFile]) -> str:
    rows = [
        f"| `{graph.name}` | {graph.bytes / SIZE_UNITS:.1f} MB | {_peak_memory(graph)} |"
        for graph in graphs
    ]
    note = (
        "Activation memory is counted, not measured: the largest sum of tensors that must be held\n"
        "at once, without weights and without what a runtime saves by fusion or in-place ops."
    )
    head = ["| file | size | peak activation memory |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows, "", note])


def _peak_memory(graph: GraphFile) -> str:
    if graph.peak_bytes is None:
        return "depends on the input's size"
    return f"{graph.peak_bytes / SIZE_UNITS:.1f} MB"


def _table(spec: GraphSpec) -> str:
    rows = [
        f"| {kind} | `{t.name}` | ({', '.join(str(axis) for axis in t.shape)}) "
        f"| {t.dtype} | {t.meaning} |"
        for kind, tensors in (("in", spec.inputs), ("out", spec.outputs))
        for t in tensors
    ]
    return "\n".join(
        ["| | name | shape | type | meaning |", "| --- | --- | --- | --- | --- |", *rows]
    )


def _verification(report: Report) -> str:
    if report.status is Status.UNVERIFIED:
        return _lines(
            f"**Unverified**: {report.reason}. These files have not been run; check them with "
            "`golden/` before you rely on them."
        )
    worst = min(item.mask_iou for item in report.prompts)
    logits = max(item.logits_max_abs_error for item in report.prompts)
    text = _lines(
        f"**{report.status.capitalize()}** with {report.runtime} against PyTorch in float32 "
        f"on {len(report.embeddings)} images and {len(report.prompts)} prompts: mask IoU at "
        f"least {worst:.4f}, mask logits at most {logits:.1e} apart. Every figure is in "
        "`manifest.json`."
    )
    if not report.note:
        return text
    note = report.note
    return f"{text}\n{_lines(f'{note[0].upper()}{note[1:]}. Compare a device with `golden/`.')}"


def _lines(text: str) -> str:
    """One sentence or more in lines of a readable width."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
