"""`evaluate` from options to figures: open, choose images, evaluate those not in the log."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mobilesam_export import cluster, packages
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.errors import MeasurementError, UsageError
from mobilesam_export.evaluation import dataset
from mobilesam_export.evaluation.candidates import (
    bundle_candidate,
    open_bundles,
    pytorch_candidates,
)
from mobilesam_export.evaluation.dataset import Dataset
from mobilesam_export.evaluation.log import EvaluationLog
from mobilesam_export.evaluation.naming import folder_names
from mobilesam_export.evaluation.overlays import overlays
from mobilesam_export.evaluation.report import render
from mobilesam_export.evaluation.scores import (
    SLOTS,
    Candidate,
    Evaluation,
    Interface,
    Score,
    clicked_shares,
    evaluate_images,
)
from mobilesam_export.files import write_text
from mobilesam_export.progress import items_bar

REPORT_IMAGES = 6  # images of the report
MOST_CLICKS = 32  # a side, as SAM's automatic mask generator


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`.

    Attributes:
        bundles: folders, one or more.
        images: a folder of images; None for held-out scenes.
        annotations: a COCO file of instances for them; None to take PyTorch's own masks.
        scenes: number of held-out scenes, without images.
        limit: largest number of images; None for all.
        clicks: a side, on images without masks: that many times as many prompts of each kind.
        checkpoint: of the bundles; None for the one that they name.
        pytorch: whether to evaluate the float32 PyTorch model beside them.
        save: a file of figures to write or to resume; None for none.
        ray: divide the images over processes of Ray: see `cluster.connected`; None to evaluate
            them here.
        workers: of Ray.

    Raises:
        UsageError: options contradict each other.
    """

    bundles: tuple[Path, ...]
    images: Path | None = None
    annotations: Path | None = None
    scenes: int = 20
    limit: int | None = None
    clicks: int = 3
    checkpoint: str | None = None
    pytorch: bool = False
    save: Path | None = None
    ray: str | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        if len({path.resolve() for path in self.bundles}) < len(self.bundles):
            raise UsageError("the same bundle is given twice; name each once")
        if self.annotations and not self.images:
            raise UsageError("--annotations needs --images, the folder of their images")
        if not 1 <= self.clicks <= MOST_CLICKS:
            raise UsageError(f"--clicks is {self.clicks}; expected 1 to {MOST_CLICKS} a side")


@dataclass(frozen=True)
class EvaluationResult:
    """Figures, with their candidates and images.

    Attributes:
        candidates: in the order of tables.
        dataset: the images.
        references: whose answers are taken for true, by the interface of those that they are true
            for; none where the images have masks.
        evaluation: figures by candidate; at least one object was evaluated.
    """

    candidates: tuple[Candidate, ...]
    dataset: Dataset
    references: Mapping[Interface, Candidate]
    evaluation: Evaluation

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each candidate's files; 0 for PyTorch."""
        return {candidate.name: candidate.bytes for candidate in self.candidates}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "dataset": self.dataset.description,
            "images": self.evaluation.images,
            "problems": self.evaluation.problems,
            "notes": self.evaluation.notes,
            "candidates": {
                name: {
                    "objects": score.objects,
                    "bytes": self.sizes[name],
                    "mean": score.means(),
                    "median_ms": score.latency(),
                    "histogram": score.histogram.tolist(),
                }
                for name, score in self.evaluation.scores.items()
            },
        }


def run(options: EvaluateOptions) -> EvaluationResult:
    """Evaluate every image that `options.save` does not have yet.

    Raises:
        MobileSamExportError: a bundle, checkpoint or file is wrong, or nothing was evaluated.
    """
    if options.ray:
        packages.require("ray", extra="ray")
    result = _open(options)
    evaluation = result.evaluation
    _evaluate(result, options)
    if not evaluation.images or not all(s.objects for s in evaluation.scores.values()):
        named = "; ".join(evaluation.problems[:3])
        raise MeasurementError(f"nothing was evaluated: {named or 'there are no objects'}")
    return result


def _open(options: EvaluateOptions) -> EvaluationResult:
    """Candidates and images, nothing evaluated."""
    bundles = open_bundles(options.bundles)
    images = _dataset(options, bundles[0])
    pairs = zip(folder_names(options.bundles), bundles, strict=True)
    candidates = [bundle_candidate(name, item) for name, item in pairs]
    references = {}
    if options.pytorch or (options.images and not options.annotations):
        references = pytorch_candidates(bundles, options.checkpoint)
    if options.pytorch:
        candidates.insert(0, references[SLOTS])
    evaluation = Evaluation(
        {candidate.name: Score() for candidate in candidates},
        problems=list(images.problems),
        notes=[*images.notes, *_notes_on_choice(candidates, references)],
    )
    return EvaluationResult(tuple(candidates), images, references, evaluation)


def _notes_on_choice(
    candidates: Sequence[Candidate], references: Mapping[Interface, Candidate]
) -> Iterator[str]:
    """Names what is held to other masks of PyTorch than SAM's predictor shows."""
    for candidate in candidates:
        contract = candidate.predictor.contract
        if references and contract.dynamic:
            yield (
                f"{candidate.name} is held to the masks that SAM's own ONNX graph chooses: for a "
                "box alone the best of three, where SAM's predictor takes the first"
            )
        if references and contract.fused:
            yield (
                f"{candidate.name} is held to PyTorch's masks of images stretched to "
                f"{contract.size}, which is how it takes them"
            )


def _dataset(options: EvaluateOptions, bundle: Bundle) -> Dataset:
    if not options.images:
        return dataset.held_out_scenes(options.scenes, bundle.contract.size)
    if options.annotations:
        return dataset.coco(options.images, options.annotations)
    return dataset.image_folder(options.images)


def _evaluate(result: EvaluationResult, options: EvaluateOptions) -> None:
    """Fill the evaluation from the log, then evaluate the other images, with a progress bar."""
    images, evaluation = result.dataset, result.evaluation
    names = images.names[: options.limit]
    identity = {
        "candidates": {candidate.name: candidate.identity for candidate in result.candidates},
        "reference": {str(key): item.identity for key, item in result.references.items()},
        "clicks a side": options.clicks if result.references else None,
        **(images.identity() if options.save else {}),
    }
    with closing(EvaluationLog(options.save, identity)) as log:
        records = {record["image"]: record for record in log.records}
        for name in names:
            if name in records:
                evaluation.add(records[name])
        remaining = [name for name in names if name not in records]
        with items_bar("Evaluating", len(names), done=len(names) - len(remaining)) as advance:
            for record in _records(result, options, remaining):
                log.append(record)
                evaluation.add(record)
                advance()


def _records(
    result: EvaluationResult, options: EvaluateOptions, names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """See `evaluate_images`."""
    if not options.ray:
        grid = clicked_shares(options.clicks)
        yield from evaluate_images(
            result.candidates, result.references, result.dataset, names, grid
        )
        return
    items = [(cluster.absolute(options), name) for name in names]
    yield from cluster.divided(_record, items, options.ray, options.workers)


@cache
def _opened(options: EvaluateOptions) -> EvaluationResult:
    """Once in each process of Ray."""
    return _open(options)


def _record(item: tuple[EvaluateOptions, str]) -> dict[str, Any]:
    options, name = item
    result = _opened(options)
    grid = clicked_shares(options.clicks)
    (record,) = evaluate_images(result.candidates, result.references, result.dataset, [name], grid)
    return record


def write_report(path: Path, result: EvaluationResult) -> None:
    """Write the HTML page atomically.

    Raises:
        OutputError: it cannot be written.
    """
    images = result.dataset
    examples = overlays(result.candidates, result.references, images, images.names[:REPORT_IMAGES])
    title = f"Masks on {images.description}"
    write_text(path, render(title, result.evaluation, result.sizes, examples))
