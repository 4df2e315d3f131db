"""A report as text: one paragraph of short lines for each graph."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from mobilesam_export.inspection.report import (
    GraphReport,
    ResidencyReport,
    TensorReport,
    longest_axis,
)

WIDTH = 100
INDENT = 16
MAX_LISTED = 3  # tensors of a list that may be long


def render(report: GraphReport) -> str:
    """The report without the op-by-op verdicts, which --json has."""
    head = f"{report.file}: {report.form}, {report.file_bytes / 1e6:.1f} MB"
    return "\n".join([head, *(_paragraph(*row) for row in _rows(report))])


def _rows(report: GraphReport) -> Iterator[tuple[str, str]]:
    yield "inputs", "; ".join(_tensor(t) for t in report.inputs)
    yield "outputs", "; ".join(_tensor(t) for t in report.outputs)
    yield "ops", f"{sum(report.ops.values())}: {_counts(report.ops)}"
    movement = sum(report.data_movement.values())
    yield "only move data", f"{movement}: {_counts(report.data_movement)}" if movement else "0"
    if report.largest_rank and report.largest_axis:
        rank = len(report.largest_rank.shape or ())
        yield "largest rank", f"{rank}: {_tensor(report.largest_rank)}"
        axis = longest_axis(report.largest_axis.shape)
        yield "longest axis", f"{axis:,}: {_tensor(report.largest_axis)}"
    yield "dynamic", _first_tensors(report.dynamic) or "nothing"
    weights = ", ".join(f"{dtype} {_size(size)}" for dtype, size in report.weights_bytes.items())
    yield "weights", f"{_size(sum(report.weights_bytes.values()))}: {weights}"
    yield "MACs", _macs(report)
    yield "peak memory", _peak(report)
    if report.partitions is not None:
        cut = report.partitions
        remainder = ", ".join(kind for kind, _ in cut.left) or "nothing"
        count = f"{cut.count} partition{'s' * (cut.count != 1)}"
        yield cut.delegate, f"{count}, measured; left to the runtime: {remainder}"
    if report.residency is not None:
        yield from _residency(report.residency)


def _macs(report: GraphReport) -> str:
    kinds = ", ".join(f"{kind} {_number(macs)}" for kind, macs in report.macs.items())
    text = f"{_number(sum(report.macs.values()))}: {kinds}" if kinds else "0"
    if report.macs_uncounted:
        text += f"; without {len(report.macs_uncounted)} ops of dynamic size or unknown rule"
    return text


def _peak(report: GraphReport) -> str:
    prefix = "at least " if report.peak_unknown else ""
    text = f"{prefix}{_size(report.peak_bytes)} of activations"
    if report.peak_op:
        tensors = _first_tensors(report.peak_tensors)
        text += f", while {report.peak_kind} makes {report.peak_op}: {tensors}"
    if report.peak_unknown:
        text += f"; {report.peak_unknown} tensors of dynamic size are not in it"
    return text + " (views, computing in place and fusion are not modelled)"


def _residency(report: ResidencyReport) -> Iterator[tuple[str, str]]:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.counts.items())
    yield report.delegate, f"{counts}; {report.how}"
    for name, rule in report.rules.items():
        remark = rule.verdict == "resident"
        ops = f"{sum(rule.ops.values())} ops" if remark else _counts(rule.ops)
        label = "  remark" if remark else f"  {rule.verdict}"
        yield label, f"{name} ({ops}): {rule.reason} [{rule.source}]"


def _paragraph(label: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"  {label:<{INDENT}}",
        subsequent_indent=" " * (INDENT + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _tensor(tensor: TensorReport) -> str:
    axes = "of unknown rank"
    if tensor.shape is not None:
        sizes = ["?" if size is None else str(size) for size in tensor.shape]
        axes = f"({', '.join(sizes)})"
    return f"{tensor.name} {tensor.dtype} {axes}"


def _first_tensors(tensors: Sequence[TensorReport]) -> str:
    text = "; ".join(_tensor(tensor) for tensor in tensors[:MAX_LISTED])
    rest = len(tensors) - MAX_LISTED
    return f"{text}; and {rest} more" if rest > 0 else text


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in counts.items())


def _size(size: int) -> str:
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _number(value: int) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.2f} {name}"
    return str(value)
