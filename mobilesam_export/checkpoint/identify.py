"""What is in a state dict: MobileSAM, another SAM, or neither?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor

from mobilesam_export.model import expected_entries


@dataclass(frozen=True)
class Difference:
    """How a state dict differs from MobileSAM's."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]  # "name: (found) instead of (expected)"
    retyped: tuple[str, ...]  # "name: type", where numbers with a fraction are expected
    not_finite: tuple[str, ...]

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def summary(self) -> str:
        """One line: how many of each kind, and the first of each."""
        parts = [
            f"{len(names)} {before}key{'s' if len(names) > 1 else ''}{behind} (first: {names[0]})"
            for before, behind, names in (
                ("missing ", "", self.missing),
                ("unexpected ", "", self.unexpected),
                ("", " of another shape", self.reshaped),
                ("", " of another type", self.retyped),
                ("", " with NaN or infinity", self.not_finite),
            )
            if names
        ]
        return ", ".join(parts)


def compare_state_dict(state_dict: Mapping[str, Tensor]) -> Difference:
    """Compare names, shapes and finiteness with what MobileSAM needs."""
    expected = expected_entries()
    shared = [name for name in expected if name in state_dict]
    return Difference(
        missing=tuple(name for name in expected if name not in state_dict),
        unexpected=tuple(name for name in state_dict if name not in expected),
        reshaped=tuple(
            f"{name}: {tuple(state_dict[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in shared
            if state_dict[name].shape != expected[name].shape
        ),
        retyped=tuple(
            f"{name}: {str(state_dict[name].dtype).removeprefix('torch.')}"
            for name in shared
            if expected[name].is_floating_point() and not state_dict[name].is_floating_point()
        ),
        not_finite=tuple(n for n in shared if not bool(state_dict[n].isfinite().all())),
    )


def recognize(state_dict: Mapping[str, Tensor]) -> str:
    """Name the model that a state dict belongs to, by keys that only it has."""
    stem = state_dict.get("image_encoder.features.0.0.c.weight")
    if stem is not None:  # both are RepViT; EdgeSAM's is the m1 with 24 channels in its stem
        fused = "image_encoder.fuse_stage2.weight" in state_dict
        return "EdgeSAM" if fused or len(stem) == 24 else "RepViT-SAM"
    position = state_dict.get("image_encoder.pos_embed")
    if position is not None:  # SAM's ViTs differ in width
        return {768: "SAM ViT-B", 1024: "SAM ViT-L", 1280: "SAM ViT-H"}.get(
            position.shape[-1], "a SAM with another ViT"
        )
    if any(name.startswith("image_encoder.trunk.") for name in state_dict):
        return "SAM 2"
    if any(name.startswith("vision_encoder.") for name in state_dict):
        return "a SAM of the transformers library"
    if any("attention_biases" in name for name in state_dict):
        return "MobileSAM" if not compare_state_dict(state_dict) else "a TinyViT"
    return "no model known here"


@dataclass(frozen=True)
class Inspection:
    """What `checkpoint inspect` reports."""

    path: str
    model: str
    entries: int
    parameters: int
    dtypes: tuple[str, ...]
    file_sha256: str
    official: bool
    difference: Difference
