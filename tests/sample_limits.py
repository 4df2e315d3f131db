"""What a sample has to hold where stand-ins answer with PyTorch's own outputs."""

import json
from pathlib import Path

# Stricter than any bundle's: no runtime adds an error of its own.
LIMITS = {
    "preprocessing": {"max": 1, "mean": 0.1},  # of 0..255
    "decoder": {"iou": 0.999},
    "mask": {"iou": 0.999},
}


def write_manifest(folder: Path) -> None:
    """The only part of a bundle's manifest that the Kotlin and Swift samples read at run time."""
    (folder / "manifest.json").write_text(json.dumps({"limits": LIMITS}))
