"""A graph's description -> the report of `inspect`, as plain data that maps to JSON."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilesam_export.inspection.graph import GraphDescription, Partitions, Tensor
from mobilesam_export.inspection.macs import count_macs
from mobilesam_export.inspection.memory import find_peak
from mobilesam_export.inspection.placement import SEVERITY, Placement

Shape = tuple[int | None, ...] | None
DISCLAIMER = "by rules from documents and issues, not a measurement"


@dataclass(frozen=True)
class TensorReport:
    """A tensor; `bytes` is None where its size is dynamic."""

    name: str
    dtype: str
    shape: Shape
    bytes: int | None


@dataclass(frozen=True)
class OpReport:
    """One op's placement, and the names of the rules that apply to it."""

    name: str
    kind: str
    verdict: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class RuleReport:
    """A rule that applies to some op, with the number of ops of each kind."""

    verdict: str
    reason: str
    source: str
    ops: Mapping[str, int]


@dataclass(frozen=True)
class ResidencyReport:
    """Placement on a delegate by rules; `how` says that nothing was measured."""

    delegate: str
    how: str
    counts: Mapping[str, int]
    rules: Mapping[str, RuleReport]
    ops: tuple[OpReport, ...]


@dataclass(frozen=True)
class GraphReport:
    """The report on one graph.

    Attributes:
        file, form, file_bytes: of its file.
        inputs, outputs: its interface.
        ops: number of ops by kind, the most frequent first.
        data_movement: counts of ops that only move data, by kind.
        largest_rank: the first tensor of the highest rank.
        largest_axis: the first tensor with the longest axis.
        dynamic: tensors with a dynamic axis.
        weights_bytes: constants by their stored type.
        macs, macs_uncounted: see `macs`; the total by kind, and the ops that it lacks.
        peak_bytes: activation memory, see `memory`.
        peak_op, peak_kind: the op at the peak.
        peak_tensors: the live tensors at the peak, the largest first.
        peak_unknown: number of tensors that it lacks because their size is dynamic.
        residency: None without rules for files of this form.
        partitions: how the runtime's delegate cuts the file, measured; None where there is no
            delegate to ask, or it could not prepare the file.
    """

    file: str
    form: str
    file_bytes: int
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]
    ops: Mapping[str, int]
    data_movement: Mapping[str, int]
    largest_rank: TensorReport | None
    largest_axis: TensorReport | None
    dynamic: tuple[TensorReport, ...]
    weights_bytes: Mapping[str, int]
    macs: Mapping[str, int]
    macs_uncounted: tuple[str, ...]
    peak_bytes: int
    peak_op: str
    peak_kind: str
    peak_tensors: tuple[TensorReport, ...]
    peak_unknown: int
    residency: ResidencyReport | None
    partitions: Partitions | None = None


def inspect_graph(graph: GraphDescription, partitions: Partitions | None = None) -> GraphReport:
    """Count what is in a graph, and add how a delegate cuts its file; nothing is run."""
    kinds = Counter(node.kind for node in graph.nodes)
    ops = dict(kinds.most_common())
    tensors = graph.activations()
    macs, peak = count_macs(graph.nodes, graph.dialect), find_peak(graph)
    return GraphReport(
        file=graph.path.name,
        form=graph.form,
        file_bytes=_file_bytes(graph.path),
        inputs=_tensors(graph.inputs),
        outputs=_tensors(graph.outputs),
        ops=ops,
        data_movement={k: count for k, count in ops.items() if k in graph.dialect.data_movement},
        largest_rank=_largest(tensors, {t.name: len(t.shape or ()) for t in tensors}),
        largest_axis=_largest(tensors, {t.name: longest_axis(t.shape) for t in tensors}),
        dynamic=_tensors(tuple(t for t in tensors if t.shape is None or None in t.shape)),
        weights_bytes=_weights(graph.constants),
        macs=macs.by_kind,
        macs_uncounted=macs.uncounted,
        peak_bytes=peak.bytes,
        peak_op=peak.node.name if peak.node else "",
        peak_kind=peak.node.kind if peak.node else "",
        peak_tensors=_tensors(peak.live),
        peak_unknown=peak.unknown,
        residency=None if graph.residency is None else _residency(graph, graph.residency),
        partitions=partitions,
    )


def longest_axis(shape: Shape) -> int:
    """Size of the longest axis that is fixed."""
    return max((size for size in shape or () if size is not None), default=0)


def _tensors(tensors: tuple[Tensor, ...]) -> tuple[TensorReport, ...]:
    return tuple(TensorReport(t.name, t.dtype, t.shape, t.size_bytes) for t in tensors)


def _largest(tensors: tuple[Tensor, ...], by_name: Mapping[str, int]) -> TensorReport | None:
    if not tensors:
        return None
    return _tensors((max(tensors, key=lambda tensor: by_name[tensor.name]),))[0]


def _weights(constants: tuple[Tensor, ...]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for tensor in constants:
        sizes[tensor.dtype] += tensor.size_bytes or 0
    return {dtype: size for dtype, size in sizes.most_common() if size}


def _file_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return sum(item.stat().st_size for item in files)


def _residency(graph: GraphDescription, placements: tuple[Placement, ...]) -> ResidencyReport:
    counts = Counter(placement.verdict for placement in placements)
    pairs = list(zip(graph.nodes, placements, strict=True))
    statements = {s.name: s for placement in placements for s in placement.statements}
    rules = {}
    for statement in sorted(statements.values(), key=lambda s: -SEVERITY.index(s.verdict)):
        kinds = Counter(node.kind for node, p in pairs if statement in p.statements)
        rules[statement.name] = RuleReport(
            str(statement.verdict), statement.reason, statement.source, dict(kinds.most_common())
        )
    ops = tuple(
        OpReport(node.name, node.kind, str(p.verdict), tuple(s.name for s in p.statements))
        for node, p in pairs
    )
    by_verdict = {str(verdict): counts[verdict] for verdict in SEVERITY}
    return ResidencyReport(graph.delegate, DISCLAIMER, by_verdict, rules, ops)
