"""What several tests share: the seeded model and bundles exported through the installed program."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from mobilesam_export.model import Sam, build_sam
from mobilesam_export.seeded import seeded_state_dict

PROGRAM = str(Path(sys.executable).with_name("mobilesam-export"))  # as pip installed it
SIZE = 256  # the smallest: the same code as 1024 at a twentieth of the time


# `make test` runs two processes on two cores: more threads would only wait for each other. The
# environment is for the programs that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def state_dict() -> dict[str, torch.Tensor]:
    """The seeded checkpoint, as every test may read and none may change it."""
    return seeded_state_dict(0)


@pytest.fixture(scope="session")
def sam(state_dict: dict[str, torch.Tensor]) -> Sam:
    """The seeded model at SIZE."""
    return build_sam(state_dict, SIZE)


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Export once per session through the real command line, by arguments; do not write to it.

    Processes of one session share what one of them has exported. What the program said on stderr
    lies beside the bundle, in a file with the suffix .stderr.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "bundles"
    shared.mkdir(exist_ok=True)

    def run(*arguments: str) -> Path:
        folder = shared / "-".join(arguments).replace("/", "_")
        with FileLock(f"{folder}.lock"):
            if not folder.exists():  # a bundle is there as a whole or not at all
                command = [PROGRAM, *arguments, "-o", str(folder)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                folder.with_suffix(".stderr").write_text(done.stderr)
        return folder

    return run


@pytest.fixture(scope="session")
def onnx_bundle(export: Callable[..., Path]) -> Path:
    """An `onnx` float32 bundle of seeded weights at SIZE."""
    return export("onnx", "-c", "seeded", "--image-size", str(SIZE))


@pytest.fixture(scope="session")
def onnx_demo_bundle(export: Callable[..., Path]) -> Path:
    """An `onnx` float32 bundle of the demo weights at SIZE."""
    return export("onnx", "-c", "demo", "--image-size", str(SIZE))


@pytest.fixture(scope="session")
def onnx_sam_bundle(export: Callable[..., Path]) -> Path:
    """An `onnx-sam` float32 bundle of seeded weights at SIZE."""
    return export("onnx-sam", "-c", "seeded", "--image-size", str(SIZE))


@pytest.fixture(scope="session")
def coreml_bundle(export: Callable[..., Path]) -> Path:
    """A `coreml` float16 bundle of seeded weights at SIZE."""
    return export("coreml", "-c", "seeded", "--image-size", str(SIZE))
