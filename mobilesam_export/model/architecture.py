"""Widths and depths of a TinyViT image encoder: MobileSAM's, and those of smaller students.

What a student shares with MobileSAM does not vary: four stages with the strides 4, 8, 16 and 16,
MLPs four times as wide as their stage, and an embedding of 256 channels, which SAM's decoder takes.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from math import isqrt
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilesam_export.errors import CheckpointError

STAGES = 4
METADATA = "architecture"  # key of a safetensors file's metadata that says what its weights are of
MAX_WIDTH, MAX_DEPTH, MAX_WINDOW = 4096, 64, 64
BLOCK = re.compile(r"image_encoder\.layers\.(\d)\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class Architecture:
    """Four numbers of each kind, one for each stage.

    Attributes:
        widths: channels; the first is even, as the stem has half as many.
        depths: blocks.
        heads: of attention, each as wide as the others; 0 for the first stage, a convolutional one.
        windows: sides of the windows of attention, in tokens; 0 for the first stage.

    Raises:
        CheckpointError: these numbers are no encoder.
    """

    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (0, 4, 5, 10)
    windows: tuple[int, ...] = (0, 7, 14, 7)

    def __post_init__(self) -> None:
        limits = {"widths": MAX_WIDTH, "depths": MAX_DEPTH, "heads": MAX_WIDTH}
        for name, values in asdict(self).items():
            least = 0 if name in ("heads", "windows") else 1
            most = limits.get(name, MAX_WINDOW)
            if len(values) != STAGES or not all(_is_whole(v, least, most) for v in values):
                raise CheckpointError(
                    f"{name} of an image encoder are {STAGES} whole numbers from {least} to {most},"
                    f" not {list(values)}"
                )
        if self.widths[0] % 2:
            raise CheckpointError(f"the first of the widths must be even, not {self.widths[0]}")
        if self.heads[0] or self.windows[0] or not all((*self.heads[1:], *self.windows[1:])):
            raise CheckpointError(
                "heads and windows are 0 for the first stage, which has no attention, and over 0 "
                f"for the others, not {list(self.heads)} and {list(self.windows)}"
            )
        for width, heads in zip(self.widths[1:], self.heads[1:], strict=True):
            if width % heads:
                raise CheckpointError(f"{heads} heads do not divide a width of {width}")

    def __str__(self) -> str:
        """Like "widths 32-64-96-160, depths 2-2-6-2, heads 0-2-3-5, windows 0-7-14-7"."""
        return ", ".join(
            f"{name} {'-'.join(map(str, values))}" for name, values in asdict(self).items()
        )

    def metadata(self) -> dict[str, str]:
        """The metadata of a safetensors file with weights of this architecture."""
        return {METADATA: json.dumps(asdict(self))}


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


MOBILESAM = Architecture()


def parse_architecture(table: object) -> Architecture:
    """The table of a TOML or of JSON; numbers that it leaves out are MobileSAM's.

    Raises:
        CheckpointError: an unknown name, or numbers that are no encoder.
    """
    names = [field.name for field in fields(Architecture)]
    if not isinstance(table, Mapping) or not set(table) <= set(names):
        found = ", ".join(map(str, table)) if isinstance(table, Mapping) else type(table).__name__
        raise CheckpointError(f"an image encoder has {', '.join(names)}, not {found}")
    values: dict[str, Any] = {}
    for name, value in table.items():
        if not isinstance(value, list):
            raise CheckpointError(f"{name} of an image encoder are {STAGES} numbers, not {value!r}")
        values[str(name)] = tuple(value)
    return Architecture(**values)


def student_names() -> list[str]:
    """The names of the students that come with this package."""
    folder = resources.files("mobilesam_export.model") / "students"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir())


def load_architecture(name: str) -> Architecture:
    """A student by its name, or by the path of its TOML.

    Raises:
        CheckpointError: there is none, or it is none.
    """
    packaged = name in student_names()
    folder = resources.files("mobilesam_export.model") / "students"
    source = folder / f"{name}.toml" if packaged else Path(name)
    try:
        return parse_architecture(tomllib.loads(source.read_text(encoding="utf-8")))
    except OSError as exc:
        raise CheckpointError(
            f"no student {name!r} ({exc.strerror}); expected {', '.join(student_names())} or the "
            "path of a TOML with widths, depths, heads and windows"
        ) from exc
    except (ValueError, CheckpointError) as exc:  # TOML's errors are ValueErrors, UTF-8's, too
        raise CheckpointError(f"{name}: {exc}") from exc


def architecture_of(state_dict: Mapping[str, Tensor]) -> Architecture:
    """The architecture of a complete state dict, by the shapes in it."""
    blocks: list[set[int]] = [set() for _ in range(STAGES)]
    for name in state_dict:
        if match := BLOCK.match(name):
            blocks[int(match[1])].add(int(match[2]))
    attention = [
        state_dict[f"image_encoder.layers.{stage}.blocks.0.attn.attention_biases"].shape
        for stage in range(1, STAGES)
    ]
    merged = [
        state_dict[f"image_encoder.layers.{stage}.downsample.conv3.c.weight"].shape[0]
        for stage in range(STAGES - 1)
    ]
    return Architecture(
        widths=(state_dict["image_encoder.patch_embed.seq.2.c.weight"].shape[0], *merged),
        depths=tuple(map(len, blocks)),
        heads=(0, *(heads for heads, _ in attention)),
        windows=(0, *(isqrt(columns) for _, columns in attention)),
    )
