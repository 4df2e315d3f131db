"""Figures of a bundle's files that have no noise: ops, ranks, MACs, bytes and placements.

They are counted in the files by `inspection`, so that the same file always gives the same figures,
on any machine.
"""

from collections.abc import Mapping

from mobilesam_export.bundle.describe import inspect_path
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.inspection.placement import Verdict
from mobilesam_export.inspection.report import GraphReport, ResidencyReport

Figures = Mapping[str, int | None]  # by name; None: not known


def bundle_figures(bundle: Bundle) -> dict[str, Figures]:
    """Figures of the files of a bundle, by graph.

    Raises:
        BundleError, BackendError: see `inspect_path`.
    """
    return {graph: file_figures(report) for graph, report in bundle_reports(bundle).items()}


def bundle_reports(bundle: Bundle) -> dict[str, GraphReport]:
    """The files of a bundle, inspected."""
    names = [spec.name for spec in bundle.contract.graphs]
    return dict(zip(names, inspect_path(bundle.folder), strict=True))


def file_figures(report: GraphReport) -> dict[str, int | None]:
    """The figures of one file, by name."""
    residency = report.residency
    rank = None if report.largest_rank is None else len(report.largest_rank.shape or ())
    return {
        "ops": sum(report.ops.values()),
        "transposes": sum(n for kind, n in report.ops.items() if kind.lower() == "transpose"),
        "largest_rank": rank,
        "macs": None if report.macs_uncounted else sum(report.macs.values()),
        "file_bytes": report.file_bytes,
        "peak_bytes": None if report.peak_unknown else report.peak_bytes,
        "not_resident": None if residency is None else residency.counts[Verdict.NOT_RESIDENT],
        "partitions": _partitions(report),
    }


def _partitions(report: GraphReport) -> int | None:
    """By a delegate's rules, or as the delegate itself has cut the file where there are none."""
    if report.residency is not None:
        return count_partitions(report.residency)
    return None if report.partitions is None else report.partitions.count


def count_partitions(residency: ResidencyReport) -> int:
    """Number of consecutive runs of ops, in the order of the file, that the delegate would take."""
    delegated = [op.verdict != Verdict.NOT_RESIDENT for op in residency.ops]
    return sum(
        now and not before for before, now in zip([False, *delegated], delegated, strict=False)
    )
