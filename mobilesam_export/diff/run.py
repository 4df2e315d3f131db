"""Two bundles -> every change between them: manifests, sizes, ops, figures, golden masks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.bundle import golden
from mobilesam_export.bundle.describe import inspect_path
from mobilesam_export.bundle.manifest import Bundle, FileEntry, open_bundle, read_manifest
from mobilesam_export.bundle.write import SUMS
from mobilesam_export.diff.manifests import Change, compare_manifests
from mobilesam_export.errors import BundleError, one_line
from mobilesam_export.metrics import mask_iou
from mobilesam_export.verification.cases import ImageCase

# Worst of all prompts or images at the export: place in the report, name, and which is the worst.
FIGURES = (
    ("embeddings", "psnr_db", min),
    ("prompts", "logits_max_abs_error", max),
    ("prompts", "iou_max_abs_error", max),
    ("prompts", "mask_iou", min),
)


@dataclass(frozen=True)
class Difference:
    """All changes from one bundle to another.

    Attributes:
        old, new: their folders.
        changes: those that break an app first.
    """

    old: Path
    new: Path
    changes: tuple[Change, ...]

    @property
    def breaking(self) -> tuple[Change, ...]:
        """The changes that break an app."""
        return tuple(change for change in self.changes if change.breaking)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "old": str(self.old),
            "new": str(self.new),
            "breaking": bool(self.breaking),
            "changes": [asdict(change) for change in self.changes],
        }


def diff_bundles(old: Path, new: Path) -> Difference:
    """Compare two bundles, whose hashes are checked first; no file is run.

    Raises:
        BundleError: one is no bundle, or damaged. BackendError: a file cannot be inspected.
    """
    pair = open_bundle(old), open_bundle(new)
    manifests = read_manifest(old), read_manifest(new)
    try:
        changes = (
            *compare_manifests(*manifests),
            *_figures(*(manifest["verification"] for manifest in manifests)),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise BundleError(
            f"the manifests of {old} and {new} cannot be compared: one lacks or misplaces "
            f"{one_line(exc)}; export again"
        ) from exc
    return Difference(old, new, (*changes, *_files(*pair), *_graphs(*pair), *_masks(*pair)))


def _files(old: Bundle, new: Bundle) -> Iterator[Change]:
    """Graphs by size and hash, and how many of the other files differ."""
    for graph in _graph_names(old, new):
        left, right = _part(old.graph_files, graph), _part(new.graph_files, graph)
        sizes = [sum(entry.bytes for entry in part.values()) for part in (left, right)]
        if left != right:
            yield _note("files", graph, [_hash(left), _hash(right)], "SHA-256")
        if sizes[0] != sizes[1]:
            yield _note("size", f"{graph}, bytes", sizes, "of the download")
    others = [
        {n: e for n, e in bundle.files.items() if n not in bundle.graph_files}
        for bundle in (old, new)
    ]
    for name in sorted({path.partition("/")[0] for part in others for path in part} - {SUMS}):
        left, right = (_part(part, name) for part in others)
        if left == right:
            continue
        if name in left or name in right:
            yield _note("files", name, [_hash(left) or None, _hash(right) or None], "SHA-256")
        else:
            count = sum(left.get(n) != right.get(n) for n in {*left, *right})
            reason = f"number of files, of which {count} differ"
            yield _note("files", f"{name}/", [len(left), len(right)], reason)


def _graph_names(*bundles: Bundle) -> list[str]:
    return list(dict.fromkeys(spec.name for bundle in bundles for spec in bundle.contract.graphs))


def _part(files: Mapping[str, FileEntry], name: str) -> dict[str, FileEntry]:
    """A file, the files of a folder, or those of a graph."""
    starts = (f"{name}.", f"{name}/")
    return {n: entry for n, entry in files.items() if n == name or n.startswith(starts)}


def _hash(files: Mapping[str, FileEntry]) -> str:
    return ", ".join(entry.sha256[:12] for entry in files.values())


def _graphs(old: Bundle, new: Bundle) -> Iterator[Change]:
    """Memory of files that differ, and ops by kind, whose names each backend has of its own."""
    if dict(old.graph_files) == dict(new.graph_files):
        return
    reports = [
        dict(zip(_graph_names(bundle), inspect_path(bundle.folder), strict=True))
        for bundle in (old, new)
    ]
    for graph in [name for name in reports[0] if name in reports[1]]:
        left, right = (report[graph] for report in reports)
        for kind in dict.fromkeys((*left.ops, *right.ops)) if old.backend == new.backend else ():
            counts = [report.ops.get(kind, 0) for report in (left, right)]
            if counts[0] != counts[1]:
                yield _note("ops", f"{graph}, {kind}", counts, "inside the files")
        peaks = [report.peak_bytes for report in (left, right)]
        if peaks[0] != peaks[1]:
            yield _note("memory", f"{graph}, bytes", peaks, "peak of activations, counted")


def _figures(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """What verification has found at both exports."""
    for group, name, worst in FIGURES:
        values = [_worst(report, group, name, worst) for report in (old, new)]
        if values[0] != values[1]:
            yield _note("figures", f"{group}, worst {name}", values, "against PyTorch")


def _worst(report: Mapping[str, Any], group: str, name: str, worst: Any) -> float | None:  # noqa: ANN401
    """None where nothing was run or nothing is finite, as a PSNR without any difference."""
    values = [item[name] for item in report[group] if item[name] is not None]
    found: float | None = worst(values, default=None)
    return found


def _masks(old: Bundle, new: Bundle) -> Iterator[Change]:
    """Golden masks, PyTorch's with the weights of each, by image and prompt."""
    left, right = (
        {case.name: case for case in golden.read(bundle.folder / "golden")} for bundle in (old, new)
    )
    for name in sorted({*left, *right}):
        first, second = left.get(name), right.get(name)
        if first and second and np.array_equal(first.image, second.image):
            yield from _image_masks(first, second)
        else:
            sizes = [case and str(case.image.shape[:2]) for case in (first, second)]
            yield _note("masks", name, sizes, "another image: its masks cannot be compared")


def _image_masks(old: ImageCase, new: ImageCase) -> Iterator[Change]:
    answers = {(case.name, case.prompt.points, case.prompt.box): case for case in new.prompts}
    for case in old.prompts:
        what = f"{old.name}, {case.name}"
        other = answers.get((case.name, case.prompt.points, case.prompt.box))
        if other is None:
            yield _note("masks", what, ["prompt", None], "the new bundle has another prompt")
        elif (iou := mask_iou(other.answer.mask, case.answer.mask)) < 1:
            yield _note("masks", f"{what}, IoU", [1.0, iou], "of golden masks, old and new")


def _note(area: str, what: str, values: Sequence[Any], reason: str) -> Change:
    """A change that breaks nothing."""
    old, new = values
    return Change(area, what, old, new, False, reason)
