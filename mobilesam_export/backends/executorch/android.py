"""ExecuTorch programs timed on an Android phone: adb and executor_runner, which logs each run."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mobilesam_export.backends.device import (
    DeviceSubject,
    DeviceTiming,
    fill_template,
    how_it_ended,
    sections,
    subject_values,
)
from mobilesam_export.backends.executorch.delegates import DELEGATES
from mobilesam_export.backends.executorch.program import RELEASE
from mobilesam_export.contract import GraphSpec
from mobilesam_export.errors import UsageError
from mobilesam_export.target import GRAPHS

TEMPLATES = Path(__file__).with_name("device")
WARM_UP = 4  # runs between the cold one and those that count
RUNS = 100
COMPARED = {"encoder": "image_embeddings", "decoder": "low_res_masks"}  # outputs
NUMBER = r"([\d.]+)"
LOADED = re.compile(rf"Model loaded in {NUMBER} ms")
RUN = re.compile(rf"Iteration \d+ of (\d+): {NUMBER} ms")
ANSWERS = re.compile(r"^# answers: (.+)$", re.MULTILINE)
ERROR = re.compile(r"^[EF] \d|ERROR|CANNOT LINK|not found|No such file")
# executor_runner without these writes no times.
NO_TIMES = (
    "executor_runner logged no times: use 1.3 or newer, built with EXECUTORCH_ENABLE_LOGGING=ON "
    "and EXECUTORCH_PAL_DEFAULT=posix"
)


def write(subject: DeviceSubject, folder: Path) -> None:
    """Script, README, files and golden vectors; see `DeviceScript`."""
    contract, delegate = subject.contract, DELEGATES[str(subject.convert["delegate"])]
    if not delegate.place:
        raise UsageError(
            f"{subject.name} is for the {delegate.name} delegate, which Android lacks: "
            f"{delegate.elsewhere}"
        )
    golden = folder / "golden"
    golden.mkdir()
    specs = (contract.encoder, contract.decoder)
    names = {spec.name: _write_vectors(subject, spec, golden) for spec in specs}
    values = {
        **subject_values(subject),
        "VERSION": RELEASE,
        "PLACE": delegate.place,
        "DELEGATE": delegate.name,
        "OPTION": delegate.name.upper(),
        "PSNR": f"{subject.tolerance.embedding_psnr_db:.1f}",
        "LOGITS": f"{subject.logits_limit:.6f}",
        "WARM_UP": str(WARM_UP),
        "BEFORE": str(1 + WARM_UP),
        "RUNS": str(RUNS),
        "EXECUTIONS": str(1 + WARM_UP + RUNS),
        **{f"{name.upper()}_INPUTS": " ".join(files) for name, (files, _) in names.items()},
        **{f"{name.upper()}_OUTPUT": str(output) for name, (_, output) in names.items()},
    }
    for name in ("run.sh", "README.md"):
        fill_template(TEMPLATES / name, values, folder / name)
    for graph in GRAPHS:
        shutil.copyfile(subject.folder / f"{graph}.pte", folder / f"{graph}.pte")


def _write_vectors(
    subject: DeviceSubject, spec: GraphSpec, folder: Path
) -> tuple[tuple[str, ...], int]:
    """The inputs of a graph, and the output that is compared as GRAPH.float32.

    Returns:
        Files of the inputs in the graph's order, and the place of that output among its outputs.
    """
    golden, output = subject.folder / "golden" / "landscape", COMPARED[spec.name]
    case = "encoder" if spec.name == "encoder" else "click"
    files = tuple(f"{item.name}.{item.dtype}" for item in spec.inputs)
    for file, item in zip(files, spec.inputs, strict=True):
        source = golden / ("encoder" if item.name == "image_embeddings" else case) / file
        if source.exists():
            shutil.copyfile(source, folder / file)
        else:  # `mask_input` of a first click
            zeros = np.zeros([int(axis) for axis in item.shape], item.dtype)
            (folder / file).write_bytes(zeros.tobytes())
    shutil.copyfile(golden / case / f"{output}.float32", folder / f"{spec.name}.float32")
    return files, [item.name for item in spec.outputs].index(output)


def read(lines: Sequence[str]) -> Iterator[DeviceTiming]:
    """One timing per section of the log; see `DeviceScript`."""
    for component, place, log in sections(lines):
        if component in GRAPHS:
            yield _section(log, component, place)


def _section(log: str, component: str, place: str) -> DeviceTiming:
    runs = RUN.findall(log)
    times = [float(time) for _, time in runs]
    answers, loaded = ANSWERS.search(log), LOADED.search(log)
    whole = bool(runs) and len(runs) == int(runs[0][0]) > 1 + WARM_UP
    return DeviceTiming(
        component=component,
        device=f"android-{place}",
        runtime="ExecuTorch executor_runner",
        load_ms=(float(loaded[1]),) if loaded else (),
        cold_ms=tuple(times[:1]),
        times_ms=tuple(times[1 + WARM_UP :]) if whole else (),
        answers=answers[1].removeprefix("wrong: ") if answers else "not checked",
        unverified="" if whole else _failure(log, len(runs)),
    )


def _failure(log: str, runs: int) -> str:
    """Why there is no time."""
    if ANSWERS.search(log) and not runs:
        return NO_TIMES
    said = how_it_ended(log, "executor_runner", ERROR)
    return f"it ended after {runs} runs: {said}" if runs else said
