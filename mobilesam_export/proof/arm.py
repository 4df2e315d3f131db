"""Files run by the ARM builds of their runtimes, under emulation.

Phones are ARM; the kernels of an x86 build are others. ONNX Runtime, for one, computes float16 in
float32 on x86 and in float16 on ARM. `make arm` sets up the folder `.arm/` with an emulator and the
ARM builds; the same code that loads a file here then loads it there, in a process of its own that
answers until its input ends.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

import mobilesam_export
from mobilesam_export.backends import Backend
from mobilesam_export.bundle.staging import PROJECT
from mobilesam_export.contract import Array
from mobilesam_export.errors import BackendError
from mobilesam_export.session import Session

FOLDER = Path(".arm")
EMULATOR = "emulator/usr/bin/qemu-aarch64"
PYTHON = "usr/bin/python3.11"
WORKER = "mobilesam_export.proof.arm_worker"
# Processor models of the emulator -> what their int8 kernels are made of.
MODELS = {
    "cortex-a76": "int8 dot products, phones from 2018 on",
    "neoverse-n2": "i8mm and SVE2, phones from 2022 on",
}
# Set for an x86 build of numpy's; an ARM build does not know the values.
FOREIGN = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONHOME")


def why_unavailable(backend: Backend) -> str:
    """Why this backend's files cannot be run under emulation here; "" if they can."""
    if not backend.has_arm_build:
        return f"there is no ARM build of {backend.runner()} that could be emulated here"
    needed = {"emulator": EMULATOR, "ARM build of Python": f"root/{PYTHON}", "ARM builds": "site"}
    for what, path in needed.items():
        if not (FOLDER / path).exists():
            return f"no {what} in {FOLDER}/; run `make arm` in a checkout, and this there"
    return ""


@contextmanager
def sessions(bundle: Path, model: str) -> Iterator[tuple[Session, Session]]:
    """Encoder and decoder of a bundle, each run by its runtime's ARM build.

    Args:
        bundle: its folder.
        model: a key of MODELS.

    Raises:
        BackendError: the emulated process ended; also from a session's `run`.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        _start(bundle, model, Path(folder)) as process,
    ):
        try:
            worker = _Worker(process, Path(folder))
            runtime = f"{worker.read_answer()}, emulated {model}"
            encoder, decoder = (
                Session(run=partial(worker.run, graph), runtime=runtime)
                for graph in ("encoder", "decoder")
            )
            yield encoder, decoder
        finally:
            process.kill()


def _write_metadata(folder: Path) -> None:
    """What the program asks of its own installation: its version and backends.

    An editable installation keeps it beside packages of this processor's, not beside the code.
    """
    installed = metadata.distribution(PROJECT)
    info = folder / f"{PROJECT.replace('-', '_')}-{installed.version}.dist-info"
    info.mkdir()
    text = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    (info / "METADATA").write_text(text, encoding="utf-8")
    points = installed.read_text("entry_points.txt") or ""
    (info / "entry_points.txt").write_text(points, encoding="utf-8")


def _start(bundle: Path, model: str, folder: Path) -> "subprocess.Popen[str]":
    _write_metadata(folder)
    root, package = FOLDER.absolute(), Path(mobilesam_export.__file__).parents[1]
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (root / "site", folder, package)))
    emulator = [str(root / EMULATOR), "-cpu", model, "-L", str(root / "root")]
    python = [str(root / "root" / PYTHON), "-B", "-S", "-m", WORKER]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*emulator, *python, str(bundle)],
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


@dataclass(frozen=True)
class _Worker:
    """The emulated process: it takes a line for each run, and answers with a line."""

    process: "subprocess.Popen[str]"
    folder: Path

    def run(self, graph: str, arrays: dict[str, Array]) -> dict[str, Array]:
        """A session's `run`."""
        inputs, outputs = self.folder / "inputs.npz", self.folder / "outputs.npz"
        np.savez(inputs, allow_pickle=False, **arrays)
        request = {"graph": graph, "inputs": str(inputs), "outputs": str(outputs)}
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # `read_answer` tells why
                self.process.stdin.write(json.dumps(request) + "\n")
                self.process.stdin.flush()
        self.read_answer()
        with np.load(outputs) as answers:
            return dict(answers)

    def read_answer(self) -> str:
        """Wait for the next answer: which runtime gave it."""
        for line in self.process.stdout or ():
            if line.startswith("{"):
                answer = json.loads(line)
                if "error" in answer:
                    raise BackendError(f"the ARM build refuses the file: {answer['error']}")
                return str(answer["runtime"])
        _, stderr = self.process.communicate()
        last = (stderr.strip().splitlines() or ["it printed no error"])[-1]
        raise BackendError(f"the emulated process ended with {self.process.returncode}: {last}")
