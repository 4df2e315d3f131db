"""The teacher: a heavy encoder, and the prompt encoder and mask decoder that the student keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.checkpoint.sam_vit import SamVit, read_sam_vit
from mobilesam_export.distillation.arithmetic import autocast, normalized
from mobilesam_export.model import build_sam
from mobilesam_export.model.vit import PATCH

ENCODER = "image_encoder."


@dataclass(frozen=True)
class Teacher:
    """What a student learns from.

    Attributes:
        name: where it comes from, for people.
        sha256: of its weights.
        encoder: (B, 3, S, S) normalised RGB -> (B, 256, S/16, S/16), in eval mode.
        decoder: entries of the prompt encoder and the mask decoder, by MobileSAM's names, float32.
        notes: for the user.
        exact: whether it computes in float32 on GPUs, too.
    """

    name: str
    sha256: str
    encoder: nn.Module
    decoder: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()
    exact: bool = False

    def embed(self, pixels: Tensor) -> Tensor:
        """Embeddings as a student learns them.

        Args:
            pixels: (B, S, S, 3) uint8 RGB, on the teacher's device.

        Returns:
            (B, 256, S/16, S/16) float16, whether they are cached afterwards or not, so that a run
            does not depend on that. LayerNorm bounds them far below float16's 65,504.
        """
        with torch.inference_mode(), autocast(pixels.device, exact=self.exact):
            embeddings: Tensor = self.encoder(normalized(pixels)).half()
        return embeddings


def load_teacher(source: str, image_size: int, device: torch.device) -> Teacher:
    """Load a teacher.

    Args:
        source: of a checkpoint, see `load_checkpoint`.
        image_size: S.
        device: for the encoder.

    Raises:
        CheckpointError: it cannot be read, or is no SAM.
    """
    path = Path(source)
    if path.is_file() and (found := read_sam_vit(path)) is not None:
        encoder = found.encoder.to(device)
        return Teacher(
            path.name, found.weights_sha256, encoder, found.decoder, _notes(found, image_size)
        )
    checkpoint = load_checkpoint(source)
    sam = build_sam(checkpoint.state_dict, image_size)
    decoder = {k: v for k, v in checkpoint.state_dict.items() if not k.startswith(ENCODER)}
    provenance = checkpoint.provenance
    return Teacher(
        provenance.source,
        provenance.weights_sha256,
        sam.image_encoder.to(device),
        decoder,
        checkpoint.notes,
    )


def _notes(found: SamVit, image_size: int) -> tuple[str, ...]:
    trained = found.shape.side * PATCH
    if image_size == trained:
        return ()
    return (
        f"this teacher was trained at {trained}: its positions are interpolated for {image_size}",
    )
