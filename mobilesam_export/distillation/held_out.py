"""How near a student is to its teacher on images that it was not trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mobilesam_export.backends import reference
from mobilesam_export.contract import Array, Contract
from mobilesam_export.distillation.arithmetic import autocast, normalized
from mobilesam_export.distillation.batches import key_of, square
from mobilesam_export.distillation.dataset import UnlabelledImage
from mobilesam_export.distillation.embedder import Embedder
from mobilesam_export.distillation.views import WHOLE
from mobilesam_export.evaluation.dataset import Dataset, Sample
from mobilesam_export.evaluation.overlays import overlays
from mobilesam_export.evaluation.report import Overlay
from mobilesam_export.evaluation.scores import (
    KINDS,
    SLOTS,
    Candidate,
    Score,
    answer,
    questions_about,
)
from mobilesam_export.images import ImageArray
from mobilesam_export.metrics import psnr_db
from mobilesam_export.model import Sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.prompts import height_and_width, resized_size
from mobilesam_export.session import Session

TEACHER, STUDENT = "teacher", "student"
CLICKS = (1 / 3, 2 / 3)  # of a grid: four objects of each image, after every epoch


@dataclass(frozen=True)
class HeldOutImage:
    """One image with the teacher's view of it.

    Attributes:
        name: for people.
        image: (height, width, 3) uint8 RGB, its longest side S.
        square: (1, S, S, 3) uint8, the encoder's input.
        expected: (1, 256, S/16, S/16) float32, the teacher's embedding.
    """

    name: str
    image: ImageArray
    square: Tensor
    expected: Tensor


def open_held_out(
    images: Sequence[UnlabelledImage], embedder: Embedder, contract: Contract, device: torch.device
) -> tuple[HeldOutImage, ...]:
    """Read the images and embed them by the teacher, once for all epochs.

    Raises:
        ImageError: a file cannot be read any more.
    """
    found = []
    for image in images:
        pixels = square(image, WHOLE, contract)[0][None]
        expected = embedder.embed(pixels.to(device), (key_of(image, WHOLE),))
        shown = _resized(image.read(), contract)
        found.append(HeldOutImage(image.name, shown, pixels, expected.float().cpu()))
    return tuple(found)


def _resized(image: ImageArray, contract: Contract) -> ImageArray:
    """As the encoder gets it, so that masks are not larger than the model sees."""
    height, width = resized_size(*height_and_width(image), contract.size.shape)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Judge:
    """Compares an encoder with the teacher's, through the decoder that both share.

    Attributes:
        images: held out.
        sam: whose decoder is asked; on the CPU.
        contract: of the prompts.
        device: of encoders.
        student: whose decoder is asked about the student's embedding, if it is another one.
        exact: whether encoders compute in float32 on GPUs, too.
    """

    images: tuple[HeldOutImage, ...]
    sam: Sam
    contract: Contract
    device: torch.device
    student: Sam | None = None
    exact: bool = False

    def figures(self, encoder: nn.Module) -> dict[str, Any]:
        """Figures over all images, ready for JSON.

        Returns:
            "embedding_psnr_db" (None if infinite) and "cosine" of the embeddings, "objects" that
            the teacher segments, and mean "iou" of the student's masks with the teacher's by kind
            of prompt, see `evaluation.scores.KINDS`.
        """
        score = Score()
        pairs = []
        for image, found in self._embedded(encoder):
            pairs.append((found, image.expected))
            teacher, student = self._candidates(image, found)
            questions = questions_about(Sample(image.image, None), teacher, CLICKS)
            if questions:
                score.add(answer(student, image.image, questions))
        means = score.means() if score.objects else {}
        return {
            **_distance(*(torch.cat(side) for side in zip(*pairs, strict=True))),
            "objects": score.objects,
            "iou": {kind: round(means[kind], 5) for kind in KINDS if kind in means},
        }

    def overlays(self, encoder: nn.Module, most: int) -> list[Overlay]:
        """The teacher's and the student's masks side by side, of so many images."""
        found: list[Overlay] = []
        for image, embedding in self._embedded(encoder, most):
            sample = Sample(image.image, None)
            dataset = Dataset(image.name, (image.name,), lambda _, sample=sample: sample)  # type: ignore[misc]
            candidates = self._candidates(image, embedding)
            found += overlays(candidates, {SLOTS: candidates[0]}, dataset, dataset.names)
        return found

    def _embedded(
        self, encoder: nn.Module, most: int | None = None
    ) -> Iterator[tuple[HeldOutImage, Tensor]]:
        for image in self.images[:most]:
            with torch.no_grad(), autocast(self.device, exact=self.exact):
                found = encoder(normalized(image.square.to(self.device)))
            yield image, found.float().cpu()

    def _candidates(self, image: HeldOutImage, found: Tensor) -> tuple[Candidate, Candidate]:
        """Teacher and student on one image, whose embeddings are known."""
        asked = reference.load(self.sam, self.contract)
        own = reference.load(self.student, self.contract) if self.student else asked

        def candidate(name: str, plain: Predictor, embedding: Tensor) -> Candidate:
            outputs: dict[str, Array] = {"image_embeddings": embedding.numpy()}
            encoder = Session(lambda _: outputs, plain.encoder.runtime)
            return Candidate(name, "", replace(plain, encoder=encoder), 0)

        return candidate(TEACHER, asked, image.expected), candidate(STUDENT, own, found)


def _distance(found: Tensor, expected: Tensor) -> dict[str, float | None]:
    psnr = psnr_db(found.numpy(), expected.numpy())
    cosine = float(F.cosine_similarity(found, expected, dim=1).mean())
    return {
        "embedding_psnr_db": round(psnr, 3) if np.isfinite(psnr) else None,
        "cosine": round(cosine, 5),
    }
