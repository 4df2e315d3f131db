"""The student: a light encoder in front of the teacher's own decoder, and its checkpoint."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.checkpoint.weight_sets import is_unused
from mobilesam_export.distillation.embeddings import CHANNELS
from mobilesam_export.distillation.teacher import ENCODER, Teacher
from mobilesam_export.errors import UsageError
from mobilesam_export.files import write_whole
from mobilesam_export.graphs.ranges import equalised
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.model.architecture import MOBILESAM, architecture_of, load_architecture

NAME = "mobilesam"  # of MobileSAM itself; other students have a name or a TOML of their own


def build_student(student: str, init: str, teacher: Teacher, image_size: int) -> Sam:
    """A student with an encoder of its own and the teacher's prompt encoder and mask decoder.

    Args:
        student: "mobilesam", or see `load_architecture`.
        init: source of the checkpoint that the encoder begins with; "seeded" and "seeded:SALT" are
            of whatever architecture the student has.
        teacher: whose decoder it gets.
        image_size: S.

    Raises:
        CheckpointError: there is no such student, or `init` cannot be read.
        UsageError: `init` is of another architecture, or the embedding has another shape.
    """
    architecture = MOBILESAM if student == NAME else load_architecture(student)
    if init.partition(":")[0] == "seeded" and student != NAME:
        init = f"seeded:{student}:{init.partition(':')[2] or 0}"
    start = load_checkpoint(init).state_dict
    if (found := architecture_of(start)) != architecture:
        raise UsageError(f"--init {init} has {found}; --student {student} has {architecture}")
    return _built(start, teacher, image_size)


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
