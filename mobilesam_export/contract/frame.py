"""The shape of the encoder's input: the model's square, or a rectangle at its top left.

MobileSAM was trained on squares, in which an image of another shape is followed by padding. A
rectangle leaves the padding out, and with it the work that is spent on it. What lies near the edge
was trained with padding beside it, so the encoder computes a margin of it all the same, and drops
what it found there.
"""

import re
from dataclasses import dataclass

from mobilesam_export.errors import UsageError

# The windows of TinyViT need 64; the rest is what a machine of today can export.
STEP, MIN_SIDE, MAX_SIDE = 64, 256, 4096
PATCH = 16  # pixels of the input per position of the embedding
# Pixels of a rectangle's margin, from masks of the demo weights with margins of 0 to 96:
# benchmarks/README.md, "Rectangles".
MARGIN = 96


@dataclass(frozen=True)
class Frame:
    """The part of the model's square S x S that the input holds.

    Attributes:
        height: of the input in pixels, a multiple of 64.
        width: the same; the longer of both is S.
        margin: rows below or columns to the right that the encoder computes as well, a multiple of
            16 that does not go beyond the square; 0 in a square.
    """

    height: int
    width: int
    margin: int = 0

    def check(self) -> None:
        """Refuse what no exported graph can have.

        Raises:
            UsageError: a side or the margin is out of range.
        """
        for side in {self.height, self.width}:
            if side % STEP or not MIN_SIDE <= side <= MAX_SIDE:
                raise UsageError(
                    f"image size is {self}; "
                    f"expected a multiple of {STEP} from {MIN_SIDE} to {MAX_SIDE}"
                )
        most = self.side - min(self.height, self.width)
        if self.margin % PATCH or not 0 <= self.margin <= most:
            raise UsageError(
                f"margin is {self.margin}; expected a multiple of {PATCH} from 0 to {most} at "
                f"image size {self}"
            )

    def __str__(self) -> str:
        """1024 of a square, 1024x768 (width x height) of a rectangle, as the CLI takes it."""
        return str(self.width) if self.is_square else f"{self.width}x{self.height}"

    @property
    def side(self) -> int:
        """S, of the square."""
        return max(self.height, self.width)

    @property
    def is_square(self) -> bool:
        """Whether the input is all of it."""
        return self.height == self.width

    @property
    def option(self) -> int | str:
        """What `--image-size` takes, and JSON says: S, or "1024x768"."""
        return self.side if self.is_square else str(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return self.height, self.width

    @property
    def computed(self) -> tuple[int, int]:
        """(height, width) of what the encoder computes: the input and its margin."""
        return (
            min(self.side, self.height + self.margin),
            min(self.side, self.width + self.margin),
        )

    def over(self, stride: int) -> tuple[int, int]:
        """(height, width) of the input's part of a map with a feature for `stride` pixels."""
        return self.height // stride, self.width // stride

    @property
    def positions(self) -> int:
        """Of the embedding of the input."""
        return (self.height // PATCH) * (self.width // PATCH)


def square(side: int) -> Frame:
    """All of the model's square."""
    return Frame(side, side)


SIZE = re.compile(r"(-?\d{1,9})(?:[xX](\d{1,9}))?")


def frame_of(image_size: int | str, margin: int | None = None) -> Frame:
    """What `--image-size` and `--margin` mean.

    Args:
        image_size: S, or "WIDTHxHEIGHT".
        margin: in pixels; None for 96, or as much as there is room for.

    Raises:
        UsageError: that is no size, the margin is out of range, or a square has none.
    """
    text = str(image_size)
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"image size is {text!r}; "
            "expected a side such as 1024, or WIDTHxHEIGHT such as 1024x768"
        )
    width, height = int(found[1]), int(found[2] or found[1])
    if width != height and margin is None:
        margin = min(MARGIN, abs(width - height))
    elif width == height and margin:
        raise UsageError(f"a square of {width} has no margin; leave --margin out")
    frame = Frame(height, width, margin or 0)
    frame.check()
    return frame
