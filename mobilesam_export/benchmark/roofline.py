"""The least time that a file can take, from its MACs and bytes and a device's peaks.

time >= max(2 * MACs / peak, bytes / bandwidth), where bytes are the weights, inputs and outputs:
the least traffic, with all activations in caches. A file's share is that time over the one
measured; it is no grade, for no kernel reaches either peak.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam_export import packages
from mobilesam_export.backends.threads import torch_threads
from mobilesam_export.benchmark.budget import Budget
from mobilesam_export.benchmark.machine import Machine
from mobilesam_export.benchmark.row import Row
from mobilesam_export.benchmark.subject import GRAPHS
from mobilesam_export.benchmark.timing import time_call
from mobilesam_export.inspection.report import GraphReport

# NVIDIA's data sheets (H200 2024, H100 2023, A100 80GB SXM 2021), without sparsity: 1e12
# operations per second in float32 outside tensor cores and in 16 bits, and 1e9 bytes per second.
GPUS: Mapping[str, tuple[float, float, float]] = {
    "H200": (67.0, 989.5, 4800.0),
    "H100": (67.0, 989.5, 3350.0),
    "A100": (19.5, 312.0, 2039.0),
}
MATMUL_SIDE = 1536  # 9.4 MB a matrix: work enough for two cores, and far from the caches' sizes
COPY_BYTES = 128_000_000
REPEATS = 5


@dataclass(frozen=True)
class Peak:
    """Peak throughput of a device.

    Attributes:
        gflops: 1e9 additions and multiplications per second.
        gb_per_s: 1e9 bytes per second.
        source: of these figures.
    """

    gflops: float
    gb_per_s: float
    source: str


@dataclass(frozen=True)
class Roofline:
    """The lower bound of one component's time.

    Attributes:
        subject, component, device: of the row.
        macs: counted multiply-accumulates.
        uncounted: number of ops that multiply but are not in `macs`; then the bound is too low.
        bytes: of weights as stored, inputs and outputs.
        bound_ms: None where the peak is not known.
        limited_by: "compute" or "memory".
        share: bound / median, None where either is missing.
        peak: source of the peak.
    """

    subject: str
    component: str
    device: str
    macs: int
    uncounted: int
    bytes: int
    bound_ms: float | None = None
    limited_by: str = ""
    share: float | None = None
    peak: str = "unknown"


def roofline(
    subject: tuple[str, str, str],
    report: GraphReport,
    peak: Peak | None,
    median_ms: float | None,
) -> Roofline:
    """The bound of one file.

    Args:
        subject: subject, component and device.
        report: of the file, from `inspect_graph`.
        peak: of the device, if known.
        median_ms: as measured, if it was.
    """
    macs = sum(report.macs.values())
    ends = (*report.inputs, *report.outputs)
    traffic = sum(report.weights_bytes.values()) + sum(tensor.bytes or 0 for tensor in ends)
    uncounted = len(report.macs_uncounted)
    if peak is None:
        return Roofline(*subject, macs, uncounted, traffic)
    compute_ms = 2 * macs / (peak.gflops * 1e6)
    memory_ms = traffic / (peak.gb_per_s * 1e6)
    bound = max(compute_ms, memory_ms)
    return Roofline(
        *subject,
        macs,
        uncounted,
        traffic,
        bound_ms=bound,
        limited_by="compute" if compute_ms >= memory_ms else "memory",
        share=bound / median_ms if median_ms else None,
        peak=peak.source,
    )


def rooflines(
    rows: Sequence[Row],
    reports: Mapping[str, Mapping[str, GraphReport]],
    precisions: Mapping[str, str],
    machine: Machine,
    budget: Budget | None,
    threads: int,
) -> list[Roofline]:
    """The bound of every file of a bundle that was measured.

    Args:
        rows: of one benchmark.
        reports: bundle -> graph -> report of the file.
        precisions: bundle -> its recipe's activations, such as "float16".
        machine: of the rows that name none.
        budget: its peak counts for its device.
        threads: of the CPU.
    """
    cpu_peak: Peak | None = None
    lines = []
    for row in rows:
        if row.component not in GRAPHS or row.subject not in reports or not row.latency:
            continue
        peak = None
        if budget and budget.peak and budget.device == row.device:
            peak = Peak(budget.peak["gflops"], budget.peak["gb_per_s"], f"budget {budget.name}")
        elif row.device in ("cuda", "tensorrt"):
            peak = gpu_peak(machine.gpu, precisions[row.subject])
        elif row.device == "cpu" and not row.machine:
            cpu_peak = cpu_peak or measured_cpu_peak(threads)
            peak = cpu_peak
        subject = (row.subject, row.component, row.device)
        report = reports[row.subject][row.component]
        lines.append(roofline(subject, report, peak, row.latency.median_ms))
    return lines


def gpu_peak(name: str, precision: str) -> Peak | None:
    """Peak from the GPU's data sheet, if it is a known one."""
    for key, (single, half, bandwidth) in GPUS.items():
        if key in name:
            tera = single if precision == "float32" else half
            return Peak(tera * 1e3, bandwidth, f"data sheet of {key}, {precision}")
    return None


def measured_cpu_peak(threads: int) -> Peak | None:
    """Throughput of a large float32 matrix product and a large copy, the best of REPEATS runs.

    None without torch, which measures it: then the bound is unknown.
    """
    if packages.why_missing("torch", extra="torch"):
        return None
    import torch

    with torch_threads(threads):
        a, b = torch.ones(2, MATMUL_SIDE, MATMUL_SIDE)
        out = torch.empty(MATMUL_SIDE, MATMUL_SIDE)
        source = np.ones(COPY_BYTES, np.uint8)
        target = np.zeros_like(source)
        matmul_ms = min(time_call(lambda: torch.mm(a, b, out=out))[0] for _ in range(REPEATS))
        copy_ms = min(time_call(lambda: np.copyto(target, source))[0] for _ in range(REPEATS))
    return Peak(
        gflops=2 * MATMUL_SIDE**3 / matmul_ms / 1e6,
        gb_per_s=2 * COPY_BYTES / copy_ms / 1e6,  # read and written
        source=f"measured here with {threads} threads: float32 matrix product (int8 can pass it), "
        "copy on one",
    )
