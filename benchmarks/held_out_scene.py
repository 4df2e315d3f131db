"""A held-out scene as a PNG, for the demo: `python -m benchmarks.held_out_scene 5 scene.png`."""

import sys
from pathlib import Path

from PIL import Image

from mobilesam_export.scenes import scene


def main() -> None:
    """Write one, making its folder."""
    seed, path = int(sys.argv[1]), Path(sys.argv[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(seed, 768, 1024)).save(path)


if __name__ == "__main__":
    main()
