"""The student: a light encoder in front of the teacher's own decoder, and its checkpoint."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.checkpoint.weight_sets import is_unused
from mobilesam_export.distillation.channels import can_narrow
from mobilesam_export.distillation.embeddings import CHANNELS
from mobilesam_export.distillation.narrowing import narrow_down
from mobilesam_export.distillation.teacher import ENCODER, Teacher
from mobilesam_export.errors import UsageError
from mobilesam_export.files import write_whole
from mobilesam_export.graphs.ranges import equalised
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.model.architecture import MOBILESAM, architecture_of, load_architecture
from mobilesam_export.model.tiny_vit import TinyViT

NAME = "mobilesam"  # of MobileSAM itself; other students have a name or a TOML of their own


@dataclass(frozen=True)
class Start:
    """Before training.

    Attributes:
        student: an encoder of its own, and the teacher's prompt encoder and mask decoder.
        wide: the encoder that the student's is to be made from, see `narrow_down`; None if it has
            its weights already.
    """

    student: Sam
    wide: TinyViT | None = None

    def fit(self, device: torch.device, images: Iterable[Tensor]) -> None:
        """Make the student's encoder from the wide one.

        Args:
            device: to compute on.
            images: (1, 3, S, S) float32 each, normalised.
        """
        assert self.wide is not None  # noqa: S101 the caller has asked
        encoders = (self.wide, self.student.image_encoder)
        wide, narrow = (encoder.eval().to(device) for encoder in encoders)
        architecture = architecture_of(self.student.state_dict())
        narrow_down(wide, narrow, architecture, list(images))


def build_student(student: str, init: str, teacher: Teacher, image_size: int) -> Start:
    """A student as it begins.

    Args:
        student: "mobilesam", or see `load_architecture`.
        init: source of the checkpoint that the encoder begins with, of the student's architecture
            or a wider one; "seeded" and "seeded:SALT" are of whatever architecture it has.
        teacher: whose decoder it gets.
        image_size: S.

    Raises:
        CheckpointError: there is no such student, or `init` cannot be read.
        UsageError: `init` is of an architecture that does not fit, or the embedding has another
            shape.
    """
    architecture = MOBILESAM if student == NAME else load_architecture(student)
    kind, _, salt = init.partition(":")
    if kind == "seeded" and student != NAME and (not salt or salt.isdigit()):
        init = f"seeded:{student}:{salt or 0}"
    start = load_checkpoint(init).state_dict
    if (found := architecture_of(start)) == architecture:
        return Start(_built(start, teacher, image_size))
    if not can_narrow(found, architecture):
        raise UsageError(
            f"--init {init} has {found}; --student {student} has {architecture}; expected the same,"
            " or fewer channels and heads and all else the same"
        )
    wide = _built(start, teacher, image_size).image_encoder
    return Start(_built(seeded_state_dict(0, architecture), teacher, image_size), wide)


def build_recovered(init: str, teacher: Teacher, image_size: int) -> Sam:
    """A student whose encoder computes what that of a checkpoint does, until it is rounded.

    Its channels of attention are equalised, as the exporter does with weights that are not on a
    recipe's grid yet.

    Args:
        init: source of the checkpoint, of any architecture.
        teacher: whose decoder it gets.
        image_size: S.

    Raises:
        CheckpointError: `init` cannot be read, or is no MobileSAM.
        UsageError: the embedding has another shape.
    """
    start = load_checkpoint(init)
    built = _built(start.state_dict, teacher, image_size)
    return built if start.provenance.recovered_for else equalised(built)


def _built(start: Mapping[str, Tensor], teacher: Teacher, image_size: int) -> Sam:
    encoder = {name: value for name, value in start.items() if name.startswith(ENCODER)}
    built = build_sam({**encoder, **teacher.decoder}, image_size)
    check_embedding(built.image_encoder, image_size)
    return built


def check_embedding(encoder: nn.Module, image_size: int) -> None:
    """Refuse an encoder whose embedding the teacher's decoder could not read.

    Raises:
        UsageError: it has another shape.
    """
    with torch.no_grad():
        shape = tuple(encoder(torch.zeros(1, 3, image_size, image_size)).shape)
    expected = (1, CHANNELS, image_size // 16, image_size // 16)
    if shape != expected:
        raise UsageError(
            f"the student's embedding is {shape}; expected the teacher's {expected}: change its "
            "strides or the width of its neck"
        )


def prepare(encoder: nn.Module) -> nn.Module:
    """Make an encoder ready for training, in place.

    The classifier of TinyViT's pre-training is never run and stays as it is. BatchNorm keeps its
    running statistics and trains its scale and shift: then a step does what the exported file
    computes, whatever the batch, and several processes do what one does.
    """
    encoder.eval()
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not is_unused(ENCODER + name))
    return encoder


def parameter_groups(encoder: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters with and without weight decay.

    Biases, scales of norms and TinyViT's attention biases have none, as in TinyViT's own training
    (microsoft/Cream, `no_weight_decay_keywords`).
    """
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim < 2 or name.endswith("attention_biases")
            (others if plain else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def write_checkpoint(
    path: Path, encoder: nn.Module, teacher: Teacher, about: Mapping[str, str]
) -> None:
    """Write the student as a checkpoint of MobileSAM's kind, completely or not at all.

    Args:
        path: of the safetensors file.
        encoder: of the student.
        teacher: whose decoder is written unchanged.
        about: for the file's metadata.

    Raises:
        OutputError: a full disk, for example.
    """
    entries = {ENCODER + name: value for name, value in encoder.state_dict().items()}
    everything = {**entries, **teacher.decoder}
    architecture = architecture_of(everything)
    if architecture != MOBILESAM:
        about = {**about, **architecture.metadata()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in everything.items()}
    with write_whole(path) as part:
        part.write_bytes(save(tensors, dict(about)))
