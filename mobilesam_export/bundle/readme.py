"""The README of a bundle: everything an app developer needs who has only that folder.

What all bundles say is in `templates/`, with a text for each sample app; what holds for one format,
by the form of its graphs, is in the backend's own folder (`Backend.templates`). Its first paragraph
says what the files need, and stands at the top.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from mobilesam_export.backends import Backend, get_backend
from mobilesam_export.bundle.contents import Contents
from mobilesam_export.bundle.procedure import limits
from mobilesam_export.checkpoint.provenance import Provenance
from mobilesam_export.contract import GRAPH_FILES, Contract, GraphSpec
from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import BackendError
from mobilesam_export.inspection.memory import find_peak
from mobilesam_export.target import GraphForm
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status

SIZE_UNITS = 1e6  # MB as disks and app stores count
WIDTH = 100
# Sources of weights -> the authors' place for them on Hugging Face.
BASE_MODELS = {"official": "dhkim2810/MobileSAM"}


@dataclass(frozen=True)
class GraphFile:
    """What the README says of a graph's file.

    Attributes:
        name: of the file, or of the folder that stands for one.
        bytes: of all of it.
        peak_bytes: of activations at the worst moment; None where a size is not known.
    """

    name: str
    bytes: int
    peak_bytes: int | None


def graph_files(folder: Path, backend_name: str) -> tuple[GraphFile, ...]:
    """Look into the graphs that lie in `folder`."""
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
        graphs: its files of graphs, from `graph_files`.
    """
    target, contract = contents.target, contents.contract
    provenance, form = contents.checkpoint.provenance, contents.contract.form
    values = {
        "front_matter": _front_matter(contents),
        "target": target.name,
        "recipe": contents.recipe_name,
        "version": contents.versions["mobilesam-export"],
        "side": str(contract.image_size),
        "width": str(contract.size.width),
        "height": str(contract.size.height),
        "scaling": _scaling(contract.size),
        "points": str(contract.points),
        "files": _files(graphs),
        "encoder": _table(contract.encoder),
        "decoder": _table(contract.decoder),
        "whole": _table(contract.graphs[0]),
        "batch": _batch(contract) + _prepared(contract),
        "memory": template("memory.md").rstrip(),
        "verification": _verification(contents.report),
        "limits": _limits(limits(contract, contents.recipe.tolerance, contents.logits_spread)),
        "source": provenance.source,
        "license": provenance.license,
        "weights_sha256": provenance.weights_sha256,
        **{key: str(value) for key, value in contents.convert.items()},
        "warning": _warning(provenance),
        "runtime": _runtime(contents),
    }
    own = find_template(get_backend(target.backend), form)
    code = Template(own.read_text(encoding="utf-8")).substitute(values)
    values["requirements"], _, values["code"] = code.partition("\n\n")
    values["samples"] = _samples(get_backend(target.backend).samples(contract))
    kind = "fused" if contract.fused else "apart"
    for place, name in (
        ("prompting", f"prompting-{form.prompt}"),
        ("mask_step", f"mask-step-{form.prompt}"),
        *((place, f"{place}-{kind}") for place in ("lead", "checking", "interface")),
    ):
        values[place] = Template(template(f"{name}.md")).substitute(values).rstrip()
    return Template(template("README.md")).substitute(values)


def _scaling(size: Frame) -> str:
    """The first step of an app, on lines of Markdown that go on with three spaces."""
    if size.is_square:
        return (
            f"Scale the image so that its longest side is {size.side} pixels (width and\n"
            f"   height times `{size.side} / max(width, height)`, rounded half up), with an "
            "antialiasing bilinear\n   filter."
        )
    return (
        f"Scale the image so that it just fits into {size.width} x {size.height} pixels (width\n"
        f"   and height times `min({size.width} / width, {size.height} / height)`, rounded half up)"
        ", with an\n   antialiasing bilinear filter. Files of this shape are for images of it; "
        f"others are scaled down\n   to fit."
    )


def artifact_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each graph's file, or folder of files, in a bundle; the encoder's first."""
    return {
        path.name: sum(f.stat().st_size for f in (path, *path.rglob("*")) if f.is_file())
        for graph in GRAPH_FILES
        for path in folder.glob(f"{graph}.*")
    }


def _batch(contract: Contract) -> str:
    """On `decoder_batch`; empty where there is none."""
    if not contract.sets:
        return ""
    values = {"sets": str(contract.sets), "table": _table(contract.decoder_batch)}
    return "\n" + Template(template("decoder-batch.md")).substitute(values)


def _prepared(contract: Contract) -> str:
    """On `prepare` and `decoder_prepared`; empty where there are none."""
    if not contract.split:
        return ""
    values = {
        "prepare": _table(contract.prepare),
        "decoder": _table(contract.decoder_prepared),
    }
    return "\n" + Template(template("decoder-prepared.md")).substitute(values)


def _runtime(contents: Contents) -> str:
    """What the files need, as far as it was run."""
    runtime = contents.recipe.runtime
    if runtime is None:
        runner = get_backend(contents.target.backend).runner()
        return f"a current {runner}; the least version was not determined"
    return f"{runtime.name} {runtime.minimum} or newer"


def _warning(provenance: Provenance) -> str:
    """What to know of weights that are not meant for products."""
    if not provenance.trained:
        return template("untrained.md")
    return template("demo.md") if provenance.source == "demo" else ""


def template(name: str) -> str:
    """A text of `bundle/templates`, as it stands there."""
    folder = resources.files("mobilesam_export.bundle") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _files(graphs: Sequence[GraphFile]) -> str:
    rows = [
        f"| `{graph.name}` | {graph.bytes / SIZE_UNITS:.1f} MB | {_peak_memory(graph)} |"
        for graph in graphs
    ]
    head = ["| file | size | peak activation memory |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows])


def _front_matter(contents: Contents) -> str:
    """The YAML block of a Hugging Face model card (huggingface.co/docs/hub/model-cards)."""
    provenance = contents.checkpoint.provenance
    free = provenance.license.startswith("Apache-2.0")
    lines = [
        "---",
        f"license: {'apache-2.0' if free else 'other'}",
        "pipeline_tag: mask-generation",
        "tags:",
        *(f"- {tag}" for tag in ("mobilesam", "segment-anything", contents.target.backend)),
    ]
    if base := BASE_MODELS.get(provenance.source):
        lines.append(f"base_model: {base}")
    return "\n".join([*lines, "---"])


def _samples(names: Sequence[str]) -> str:
    """First masks with each sample of `sample/`; empty where there is none."""
    if not names:
        return ""
    texts = [template(f"sample-{name}.md") for name in names]
    return "\n".join(["\n## First mask\n", *texts])


def _limits(found: Mapping[str, Mapping[str, float]]) -> str:
    """`procedure.limits` as a table."""
    fused = "segmenter" in found
    answering = found["segmenter" if fused else "decoder"]
    subject = "the file" if fused else "decoder on PyTorch's embedding"
    psnr = [] if fused else [("embedding", f"PSNR at least {found['encoder']['psnr_db']:g} dB")]
    rows = [
        (
            "input, 0..1" if fused else "encoder's input, 0..255",
            f"at most {found['preprocessing']['max']:.3g} off",
        ),
        ("the same, on average", f"at most {found['preprocessing']['mean']:.3g} off"),
        *psnr,
        (f"{subject}: mask logits", f"at most {answering['logits_max_abs']:.2g} off"),
        (
            f"the same: `{'iou_scores' if fused else 'iou_predictions'}`",
            f"at most {answering['iou_predictions_max_abs']:g} off",
        ),
        ("final mask", f"IoU at least {found['mask']['iou']:g}"),
    ]
    head = ["| stage | limit |", "| --- | --- |"]
    table = "\n".join([*head, *(f"| {stage} | {limit} |" for stage, limit in rows)])
    return table if fused else f"{table}\n\n{template('psnr.md').rstrip()}"


def _peak_memory(graph: GraphFile) -> str:
    if graph.peak_bytes is None:
        return "not known before it runs"
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
    if report.status is Status.FAILED:
        return _lines(
            f"**Failed** with {report.runtime} against PyTorch in float32: "
            f"{'; '.join(report.failures)}. Do not ship these files."
        )
    worst = min(item.mask_iou for item in report.prompts)
    logits = max(item.logits_max_abs_error for item in report.prompts)
    images = len({item.image for item in report.prompts})
    text = _lines(
        f"**Passed** with {report.runtime} against PyTorch in float32 on "
        f"{images} images and {len(report.prompts)} prompts: mask IoU at "
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
