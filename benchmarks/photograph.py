"""A real photograph that comes with a dependency of the tests, written as a PNG.

`python -m benchmarks.photograph coffee build/demo/photo.png [WIDTH HEIGHT]`; names as in
`skimage.data`: coffee (Rachel Michetti, public domain), astronaut (NASA, public domain), ...
"""

import sys
from pathlib import Path

import skimage.data
from PIL import Image


def photograph(name: str, size: tuple[int, int] | None = None) -> Image.Image:
    """The photograph of this name, as it is or resized to (width, height)."""
    image = Image.fromarray(getattr(skimage.data, name)())
    return image if size is None else image.resize(size, Image.Resampling.LANCZOS)


def main() -> None:
    """Write one, making its folder."""
    name, path, *size = sys.argv[1:]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    photograph(name, (int(size[0]), int(size[1])) if size else None).save(target)


if __name__ == "__main__":
    main()
