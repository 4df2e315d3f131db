"""Checkpoints of SAM itself, ViT-B, L and H, in the official format: teachers, not to be exported.

Every number of the architecture is read from the shapes of the weights, so that SAMs of other
sizes that were trained with the official code are taken, too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mobilesam_export.checkpoint.load import weights_sha256
from mobilesam_export.checkpoint.state_dict import read_values
from mobilesam_export.errors import CheckpointError
from mobilesam_export.model import expected_entries
from mobilesam_export.model.vit import ImageEncoderViT, VitShape

ENCODER = "image_encoder."
POSITIONS = f"{ENCODER}pos_embed"
BLOCK = re.compile(r"blocks\.(\d+)\.")


@dataclass(frozen=True)
class SamVit:
    """A SAM with a ViT.

    Attributes:
        shape: of the encoder.
        encoder: in eval mode.
        decoder: entries of the prompt encoder and the mask decoder, float32.
        weights_sha256: hash of all entries.
    """

    shape: VitShape
    encoder: ImageEncoderViT
    decoder: Mapping[str, Tensor]
    weights_sha256: str


def read_sam_vit(path: Path) -> SamVit | None:
    """Read a file; None if it holds another model than a SAM with a ViT.

    Raises:
        CheckpointError: it cannot be read, or entries are missing or of another shape.
    """
    values = read_values(path)
    prefix = next((k.removesuffix(POSITIONS) for k in values if k.endswith(POSITIONS)), None)
    if prefix is None:
        return None
    entries = {
        name.removeprefix(prefix): value.float()
        for name, value in values.items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }
    encoder = {k.removeprefix(ENCODER): v for k, v in entries.items() if k.startswith(ENCODER)}
    decoder = {
        name: template
        for name, template in expected_entries().items()
        if not name.startswith(ENCODER)
    }
    try:
        shape = shape_of(encoder)
        model = ImageEncoderViT(shape)
        model.load_state_dict(encoder)
    except (LookupError, ValueError, ZeroDivisionError, RuntimeError) as exc:
        raise CheckpointError(
            f"{path} looks like a SAM with a ViT, but its encoder is incomplete or of another kind"
        ) from exc
    for name, template in decoder.items():
        if name not in entries or entries[name].shape != template.shape:
            raise CheckpointError(f"{path} is a SAM with a ViT whose {name} is missing or reshaped")
    return SamVit(
        shape,
        model.eval().requires_grad_(False),
        {name: entries[name] for name in decoder},
        weights_sha256(entries),
    )


def shape_of(entries: Mapping[str, Tensor]) -> VitShape:
    """The architecture of an encoder.

    Args:
        entries: by official names without `image_encoder.`.

    Raises:
        LookupError, ValueError: an entry is missing or has too few axes.
    """
    _, side, _, width = entries["pos_embed"].shape
    depth = 1 + max(int(match[1]) for match in map(BLOCK.match, entries) if match)
    tables = [entries[f"blocks.{number}.attn.rel_pos_h"] for number in range(depth)]
    lengths = [(len(table) + 1) // 2 for table in tables]
    return VitShape(
        width=width,
        depth=depth,
        heads=width // tables[0].shape[1],
        mlp_width=len(entries["blocks.0.mlp.lin1.weight"]),
        side=side,
        window=min(lengths),
        whole_image=frozenset(n for n, length in enumerate(lengths) if length == side),
    )
