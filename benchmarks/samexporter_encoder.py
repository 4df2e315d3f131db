"""samexporter 0.5's own encoder of a checkpoint: float32, and the file it calls quantized.

`export` installs samexporter and what its encoder needs from PyPI into a folder of its own and runs
its command line, unchanged, on our torch. torchvision, which has no build for this torch, is stood
in for: only data loading and the mask generator, which an export never calls, import it.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

PACKAGES = ("samexporter==0.5.0", "segment-anything==1.0", "timm==1.0.20")
NAMES = {"float32": "encoder.onnx", "quantized": "encoder.quant.onnx"}
RUN = """
import runpy, sys
from unittest.mock import MagicMock
for name in ("", ".ops", ".ops.boxes", ".ops.misc", ".transforms", ".transforms.functional",
             ".datasets", ".models", ".models.feature_extraction", ".utils"):
    sys.modules["torchvision" + name] = MagicMock()
sys.argv[0] = "samexporter.export_encoder"
runpy.run_module("samexporter.export_encoder", run_name="__main__")
"""


def export(state_dict: Mapping[str, torch.Tensor], folder: Path) -> dict[str, Path]:
    """Its encoder files by name, made once; they take (H, W, 3) float32 like `onnx-sam`."""
    folder = folder.absolute()
    paths = {name: folder / file for name, file in NAMES.items()}
    if not all(path.exists() for path in paths.values()):
        site = folder / "site"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*install, "--target", str(site), *PACKAGES], check=True)
        torch.save(dict(state_dict), folder / "mobile_sam.pt")
        options = ["--checkpoint", str(folder / "mobile_sam.pt"), "--model-type", "mobile"]
        options += ["--output", str(paths["float32"]), "--use-preprocess"]
        options += ["--quantize-out", str(paths["quantized"])]
        subprocess.run(
            [sys.executable, "-c", RUN, *options],
            check=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(site)},
        )
    return paths
