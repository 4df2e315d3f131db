"""Nothing of what TensorFlow, absl, MLIR and LiteRT say reaches the user; our progress does."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cli_runner import PROGRESS, cold
from tests.conftest import WEIGHTS

EXPORTED = ("tflite", "-c", WEIGHTS, "--image-size", "256", "-r", "float32")


def test_an_export_says_what_it_does_and_nothing_else(export: Callable[..., Path]) -> None:
    """That of the other targets is in tests/test_all.py."""
    said = export(*EXPORTED).with_suffix(".stderr").read_text().splitlines()
    assert said == [
        f"Loading the checkpoint ({WEIGHTS})",
        "Asking PyTorch for the expected answers",
        "Converting the encoder",
        "Converting the decoder",
        "Verifying the files against PyTorch",
    ]


def test_commands_on_a_bundle_are_as_quiet(export: Callable[..., Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(export(*EXPORTED), tmp_path / "bundle"))
    image = shutil.copy(bundle / "golden" / "landscape" / "image.png", tmp_path)
    inspected = cold(tmp_path, ["inspect", "bundle/decoder.tflite"], script=True)
    assert (inspected.code, inspected.stderr) == (0, "")
    segmented = cold(tmp_path, ["segment", "bundle", image, "--point", "1,1"], script=True)
    assert segmented.code == 0
    others = [line for line in segmented.stderr.splitlines() if not PROGRESS.fullmatch(line)]
    assert others == [f"note: weights {WEIGHTS} are not trained"]
