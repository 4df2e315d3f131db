"""Embeddings of a batch: from the cache what is there, from the teacher what is not."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mobilesam_export.distillation.embeddings import EmbeddingCache
from mobilesam_export.distillation.teacher import Teacher


@dataclass(frozen=True)
class Embedder:
    """A teacher with a cache before it."""

    teacher: Teacher
    cache: EmbeddingCache

    def embed(self, pixels: Tensor, keys: tuple[str, ...]) -> Tensor:
        """Embeddings of a batch.

        Args:
            pixels: (B, S, S, 3) uint8 RGB on the teacher's device.
            keys: of the B images.

        Returns:
            (B, 256, S/16, S/16) float16 on the same device.
        """
        missing = [index for index, key in enumerate(keys) if key not in self.cache]
        fresh = dict(zip(missing, self._compute(pixels[missing]), strict=True)) if missing else {}
        found = [
            fresh[index] if index in fresh else self.cache.get(key).to(pixels.device)
            for index, key in enumerate(keys)
        ]
        for index, embedding in fresh.items():
            self.cache.put(keys[index], embedding)
        return torch.stack(found)

    def _compute(self, pixels: Tensor) -> Tensor:
        # One by one on a CPU, where a batch is no faster: so an embedding has the same bits
        # whatever else is missing, and a resumed run the same losses.
        if pixels.device.type == "cpu":
            return torch.cat([self.teacher.embed(pixels[i : i + 1]) for i in range(len(pixels))])
        return self.teacher.embed(pixels)
