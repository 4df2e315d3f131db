"""Differences between weights and MobileSAM's architecture, as data and in one line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from mobilesam_export.checkpoint import relatives
from mobilesam_export.checkpoint.inert import Inert
from mobilesam_export.checkpoint.weight_sets import MODULES, WeightSet, is_unused, used_entries
from mobilesam_export.model import PIXEL_MEAN, PIXEL_STD, expected_entries
from mobilesam_export.model.architecture import MOBILESAM, Architecture

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
PIXELS = {"pixel_mean": PIXEL_MEAN, "pixel_std": PIXEL_STD}


@dataclass(frozen=True)
class Difference:
    """Differences from MobileSAM's weights; entries that inference does not use are ignored."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()  # parameters in one of MobileSAM's modules
    reshaped: tuple[str, ...] = ()  # "name: (found) instead of (expected)"
    retyped: tuple[str, ...] = ()  # "name: type", where floating point is expected
    not_finite: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()  # "name: (found) instead of (expected)"

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    @property
    def other_model(self) -> bool:
        """Whether names or shapes differ: these weights are of another model."""
        return bool(self.missing or self.unexpected or self.reshaped)

    def summary(self) -> str:
        """One line: the count of each kind and its first name."""
        counts = [
            f"{len(names)} {before}key{'s' if len(names) > 1 else ''}{behind} (first: {names[0]})"
            for before, behind, names in (
                ("missing ", "", self.missing),
                ("unexpected ", "", self.unexpected),
                ("", " of another shape", self.reshaped),
                ("", " of another type", self.retyped),
                ("", " with NaN or infinity", self.not_finite),
                ("", " of other pixels", self.pixels),
            )
            if names
        ]
        return ", ".join(counts)


def compare_state_dict(
    entries: Mapping[str, object],
    beside: Sequence[str] = (),
    architecture: Architecture = MOBILESAM,
) -> Difference:
    """Compare names, shapes, types and finiteness with what their architecture needs.

    Args:
        entries: by MobileSAM's names.
        beside: names of other tensors in the file; those that change what a model computes,
            like LoRA's, count as unexpected.
        architecture: that the weights are said to have.
    """
    expected = expected_entries(architecture)
    used_names = [name for name in expected if name in used_entries(architecture)]
    kinds = {name: _unusable(entries[name]) for name in used_names if name in entries}
    tensors = {name: v for name, v in entries.items() if isinstance(v, Tensor) and name in kinds}
    return Difference(
        missing=tuple(name for name in used_names if name not in entries),
        unexpected=(
            *(
                name
                for name, v in entries.items()
                if name not in expected and _is_parameter(name, v)
            ),
            *relatives.additions(beside),
        ),
        reshaped=tuple(
            f"{name}: {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
            for name, value in tensors.items()
            if value.shape != expected[name].shape
        ),
        retyped=tuple(f"{name}: {kind}" for name, kind in kinds.items() if kind),
        not_finite=tuple(
            name
            for name, value in tensors.items()
            if not kinds[name] and not bool(value.float().isfinite().all())
        ),
        pixels=tuple(_other_pixels(entries)),
    )


def _is_parameter(name: str, value: object) -> bool:
    """Whether this is a parameter in one of MobileSAM's modules."""
    return (
        name.partition(".")[0] in MODULES
        and not is_unused(name)
        and isinstance(value, Tensor | Inert)
    )


def _unusable(value: object) -> str:
    """Describe a value that is not a dense floating-point tensor; empty if it is one."""
    if isinstance(value, Inert):
        return "not a tensor but an array or object of another library"
    if not isinstance(value, Tensor):
        return f"not a tensor but {type(value).__name__}"
    if value.dtype not in DTYPES:
        return str(value.dtype).removeprefix("torch.")
    if value.layout != torch.strided:
        return f"{value.dtype}, {value.layout}".replace("torch.", "")
    return "a tensor without values (meta)" if value.is_meta else ""


def _other_pixels(entries: Mapping[str, object]) -> Iterator[str]:
    """Pixel statistics that a fork saved and that differ from SAM's."""
    for name, expected in PIXELS.items():
        value = entries.get(name)
        if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta:
            kind = value.dtype if value.dtype in DTYPES else torch.float32
            reference = torch.tensor(expected).to(kind)  # as exact as the type that it was saved in
            if value.numel() != 3 or not torch.allclose(value.flatten().to(kind), reference):
                numbers = ", ".join(f"{number:g}" for number in value.flatten()[:3].tolist())
                yield f"{name}: ({numbers}) instead of {expected}"


def why_refused(difference: Difference, values: Mapping[str, object], weights: WeightSet) -> str:
    """Why weights cannot be exported, and what to do, to be put behind the file's name.

    Args:
        difference: of these weights from MobileSAM's.
        values: of the whole file.
        weights: those that were chosen.
    """
    if difference.retyped and not difference.missing and not difference.unexpected:
        return (  # shapes differ, too, where several values are packed in one element
            f"cannot be exported: {_first(difference.retyped)}; expected float32, float16, "
            "bfloat16 or float64: give the checkpoint from before it was quantized or converted"
        )
    if difference.other_model:
        fault = f"is not MobileSAM but {relatives.recognize(values)}: {difference.summary()}"
        beside = all(name.partition(".")[0] not in MODULES for name in difference.unexpected)
        if beside and weights.complete and not difference.reshaped:
            fault += f" beside the weights (alone, they are -c FILE:{weights.name})"
        return f"{fault}; {relatives.advice(values)}"
    if difference.not_finite:
        return (
            f"cannot be exported: NaN or infinity (in float32) in {_first(difference.not_finite)}; "
            "give an earlier checkpoint of the training"
        )
    return (
        f"expects other pixels than SAM: {difference.pixels[0]}; the files that are exported "
        "normalize with SAM's values, so train with them or fold yours into the first convolution"
    )


def _first(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


@dataclass(frozen=True)
class Inspection:
    """The report of `checkpoint inspect`.

    Attributes:
        path: the file.
        model: its name, for people.
        entry: prefix of the weights' names in the file.
        sets: names of all complete sets of weights in the file.
        entries: their number in MobileSAM's modules, or in a file of another model.
        parameters: their number of elements.
        dtypes: of the entries.
        file_sha256: hash of the file.
        official: whether it is the official checkpoint.
        difference: from what can be exported.
        notes: prefixes that were stripped, entries that were left out.
    """

    path: str
    model: str
    entry: str
    sets: tuple[str, ...]
    entries: int
    parameters: int
    dtypes: tuple[str, ...]
    file_sha256: str
    official: bool
    difference: Difference
    notes: tuple[str, ...]
