"""Quality of masks: bundles side by side on images with known masks.

Every object is prompted by one click, three clicks and a box. Without annotations, the
float32 PyTorch model's answers to the same prompts replace them, as it answers through the bundle's
interface: with SAM's own ONNX graph a box alone gets the best of three masks, with SAM's predictor
the first, and Apple's segmenter stretches images. Only an image's figures are kept, so memory does
not grow with the number of images.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.contract import DEFAULT_POINTS, Array, Contract, plain_contract
from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import ImageError
from mobilesam_export.evaluation.dataset import Dataset, Sample
from mobilesam_export.metrics import Mask, boundary_iou, mask_iou
from mobilesam_export.predictor import Answer, Predictor
from mobilesam_export.prompts import ImageArray, Prompt
from mobilesam_export.session import Session
from mobilesam_export.verification.cases import object_prompts

# Kinds of answers: the best of one click's three masks by the known mask, and by the model's own
# prediction; three clicks (two inside, one outside); a tight box.
KINDS = ("click_best", "click", "clicks", "box")
STABILITY_OFFSET = 1.0  # of the logits, as in SAM's automatic mask generator
BINS = 20  # of the histogram of IoUs


def clicked_shares(count: int) -> tuple[float, ...]:
    """Places of clicks on images without masks, as shares of width and of height, evenly spaced.

    Args:
        count: a side.
    """
    return tuple((place + 1) / (count + 1) for place in range(count))


GRID = clicked_shares(3)
# `GraphForm.prompt`; and of fused files, which stretch images, what they stretch them to.
Interface = tuple[str, Frame | None]


def interface(contract: Contract) -> Interface:
    """What decides how PyTorch has to answer to be the truth for a bundle."""
    return contract.form.prompt, contract.size if contract.fused else None


SLOTS = interface(plain_contract(1024, DEFAULT_POINTS))  # SAM's predictor, on the square


@dataclass(frozen=True)
class Candidate:
    """A predictor to evaluate.

    Attributes:
        name: for tables.
        identity: hash of its files or weights, for runs that are resumed.
        predictor: gives the answers.
        bytes: of its files; 0 for PyTorch.
    """

    name: str
    identity: str
    predictor: Predictor
    bytes: int


@dataclass(frozen=True)
class Question:
    """One prompt and its true mask."""

    kind: str
    prompt: Prompt
    truth: Mask


@dataclass
class Score:
    """Running sums of one candidate, of constant size for any number of images."""

    objects: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    milliseconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add one candidate's part of an image's record."""
        for answers in record["objects"]:
            self.objects += 1
            for key, value in answers.items():
                self.sums[key] = self.sums.get(key, 0.0) + value
            self.histogram[min(BINS - 1, int(answers["click"] * BINS))] += 1
        for key, value in record["ms"].items():
            times = self.milliseconds.setdefault(key, [])
            times.append(value)
            del times[:-1000]  # the median of the latest thousand is as good

    def means(self) -> dict[str, float]:
        """Mean of every figure over all objects."""
        return {key: value / self.objects for key, value in self.sums.items()}

    def latency(self) -> dict[str, float]:
        """Median milliseconds of encoder and decoder; of a fused file, of both as the decoder's."""
        return {key: float(np.median(times)) for key, times in self.milliseconds.items()}


@dataclass
class Evaluation:
    """Scores of all candidates so far.

    Attributes:
        scores: by candidate.
        images: number of evaluated images.
        problems: of images and annotations that were left out, in words.
        notes: what a rule decided where the files do not say, in words.
    """

    scores: dict[str, Score]
    images: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add one image's record, new or from an earlier run."""
        self.problems += record["problems"]
        self.notes += record.get("notes", [])
        if not record["candidates"]:
            return
        self.images += 1
        for name, result in record["candidates"].items():
            self.scores[name].add(result)


def evaluate_images(
    candidates: Sequence[Candidate],
    references: Mapping[Interface, Candidate],
    dataset: Dataset,
    names: Sequence[str],
    grid: Sequence[float] = GRID,
) -> Iterator[dict[str, Any]]:
    """Evaluate image by image.

    Args:
        candidates: at least one.
        references: the float32 model for images without masks, by the interface of those that it
            is the truth for; none if all images have masks.
        dataset: of the images.
        names: of the images to evaluate.
        grid: see `questions_about`.

    Yields:
        A record for each image, ready for JSON: its name, problems, and for each candidate
        the figures of every object.
    """
    for name in names:
        record: dict[str, Any] = {"image": name, "problems": [], "candidates": {}}
        try:
            sample = dataset.read(name)
        except ImageError as exc:
            record["problems"].append(str(exc))
            yield record
            continue
        record["problems"] += sample.skipped
        record["notes"] = list(sample.notes)
        asked = list(asked_of(candidates, references, sample, grid))
        if not asked:
            record["problems"].append(f"{name} has no objects")
        record["candidates"] = {
            candidate.name: answer(candidate, sample.image, questions)
            for candidate, questions in asked
        }
        yield record


def asked_of(
    candidates: Sequence[Candidate],
    references: Mapping[Interface, Candidate],
    sample: Sample,
    grid: Sequence[float] = GRID,
) -> Iterator[tuple[Candidate, list[list[Question]]]]:
    """Each candidate with its questions about an image; nothing if there are no objects.

    Args:
        candidates: in this order.
        references: see `evaluate_images`.
        sample: the image, with masks or without.
        grid: see `questions_about`.
    """
    questions: dict[Interface, list[list[Question]]] = {}
    for candidate in candidates:
        key = interface(candidate.predictor.contract)
        if key not in questions:
            questions[key] = questions_about(sample, references.get(key), grid)
        if questions[key]:
            yield candidate, questions[key]


def questions_about(
    sample: Sample, reference: Candidate | None, grid: Sequence[float] = GRID
) -> list[list[Question]]:
    """For each object of an image, its prompts with their true masks.

    Args:
        sample: an image, with masks or without.
        reference: whose answers are taken for true where there are no masks.
        grid: clicks that find them, as shares of width and height.
    """
    if sample.masks is not None:
        return [
            [Question(kind, prompt, mask) for kind, prompt in _prompts(mask).items()]
            for mask in sample.masks
        ]
    if reference is None:
        return []
    predictor = reference.predictor
    image = predictor.embed(sample.image)

    def truth(prompt: Prompt) -> Mask:
        return predictor.predict(prompt, image).mask

    size, groups = image.size, []
    for share in ((x, y) for y in grid for x in grid):
        mask = truth(Prompt(((share[0] * size[1], share[1] * size[0], True),)))
        if mask.any() and not mask.all():
            prompt_by_kind = _prompts(mask)
            groups.append(
                [Question(kind, prompt, truth(prompt)) for kind, prompt in prompt_by_kind.items()]
            )
    return groups


def _prompts(mask: Mask) -> dict[str, Prompt]:
    """The prompts for a mask; one that covers all pixels has no outside to click on."""
    slots = 3 if not mask.all() else 2
    candidates = object_prompts(mask, slots)
    return {kind: candidates[kind] for kind in ("click", "clicks", "box") if kind in candidates}


def answer(
    candidate: Candidate, image: ImageArray, questions: Sequence[Sequence[Question]]
) -> dict[str, Any]:
    """Figures of one candidate on one image."""
    encoder_ms: list[float] = []
    decoder_ms: list[float] = []
    predictor = replace(
        candidate.predictor,
        encoder=_timed(candidate.predictor.encoder, encoder_ms),
        decoder=_timed(candidate.predictor.decoder, decoder_ms),
    )
    embedded, objects = predictor.embed(image), []
    for object_questions in questions:
        figures: dict[str, float] = {}
        for question in object_questions:
            reply = predictor.predict(question.prompt, embedded)
            figures |= judge(question, reply, predictor.contract)
        objects.append(figures)
    milliseconds = {"decoder": float(np.median(decoder_ms))}
    if not predictor.fused:  # whose one file answers each prompt from the image
        milliseconds["encoder"] = encoder_ms[0]
    return {"objects": objects, "ms": milliseconds}


def _timed(session: Session, times_ms: list[float]) -> Session:
    """A session that appends the time of each run of the file."""

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        start = time.perf_counter()
        outputs = session.run(inputs)
        times_ms.append((time.perf_counter() - start) * 1e3)
        return outputs

    return replace(session, run=run)


def judge(question: Question, reply: Answer, contract: Contract) -> dict[str, float]:
    """The figures of one answer, by name: IoU, boundary IoU and, for one click, stability."""
    figures = {
        question.kind: mask_iou(reply.mask, question.truth),
        f"{question.kind}_boundary": boundary_iou(reply.mask, question.truth),
    }
    if question.kind != "click":
        return figures
    if not contract.dynamic:  # otherwise the graph has chosen; the other masks are not there
        size = question.truth.shape
        low_res = reply.outputs["low_res_masks"][0, 1:]
        masks = [prompts.final_mask(logits, size, contract) for logits in low_res]
        figures["click_best"] = max(mask_iou(mask, question.truth) for mask in masks)
    return {**figures, "stability": stability(reply.low_res_mask)}


def stability(logits: Array) -> float:
    """IoU of the masks that a threshold of +1 and of -1 would give; 1 for an empty mask."""
    low = int((logits > -STABILITY_OFFSET).sum())
    return int((logits > STABILITY_OFFSET).sum()) / low if low else 1.0
