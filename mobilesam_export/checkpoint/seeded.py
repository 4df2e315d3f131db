"""Seeded weights: they need no download and are the same on every machine."""

import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobilesam_export.model import expected_entries
from mobilesam_export.model.architecture import MOBILESAM, Architecture


def seeded_state_dict(salt: int = 0, architecture: Architecture = MOBILESAM) -> dict[str, Tensor]:
    """Weights that depend only on names, shapes and `salt`: the same on every machine.

    They are not trained. Shapes, latency and numerical parity can be checked with them, mask
    quality cannot.
    """
    expected = expected_entries(architecture)
    return {name: _seeded_tensor(name, template, salt) for name, template in expected.items()}


def _seeded_tensor(name: str, template: Tensor, salt: int) -> Tensor:
    if not template.is_floating_point():  # batch counters, which nothing reads
        return torch.tensor(1000, dtype=template.dtype)
    # numpy's legacy generator is frozen: its streams will not change with versions.
    random = np.random.RandomState((zlib.crc32(name.encode()) + salt) & 0xFFFFFFFF)
    z = random.standard_normal(template.numel()).reshape(tuple(template.shape))
    return torch.from_numpy(_seeded_values(name, z).astype(np.float32))


def _seeded_values(name: str, z: NDArray[np.float64]) -> NDArray[np.float64]:
    leaf, vector = name.rpartition(".")[2], z.ndim == 1
    if leaf == "running_var":
        return 0.5 + np.abs(z)
    if leaf == "attention_biases":
        return 0.5 * z
    if vector and leaf == "weight":  # scale of a normalisation layer
        return 1 + 0.1 * z
    if vector:  # biases and running means
        return 0.1 * z
    learned_token = len(z) <= 4 and z.ndim == 2 and ("embed" in name or "token" in name)
    if learned_token or leaf == "positional_encoding_gaussian_matrix":
        return z
    transposed = z.ndim == 4 and "output_upscaling" in name
    fan_in = z.shape[0] if transposed else int(np.prod(z.shape[1:]))
    return z / float(np.sqrt(fan_in))
