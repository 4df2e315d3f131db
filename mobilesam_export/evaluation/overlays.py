"""Images with masks on them, for the report of an evaluation."""

from collections.abc import Mapping, Sequence

from mobilesam_export.errors import ImageError
from mobilesam_export.evaluation.dataset import Dataset
from mobilesam_export.evaluation.report import Overlay
from mobilesam_export.evaluation.scores import Candidate, Interface, asked_of
from mobilesam_export.metrics import mask_iou
from mobilesam_export.segment import overlay


def overlays(
    candidates: Sequence[Candidate],
    references: Mapping[Interface, Candidate],
    dataset: Dataset,
    names: Sequence[str],
) -> list[Overlay]:
    """For each image, each candidate's answer to a box and to a click on one object.

    The IoU in a caption is with the image's own mask, or where it has none with the mask of the
    candidate's reference, see `evaluate_images`. Images that cannot be read or have no objects are
    left out; the evaluation reports them.
    """
    results = []
    for name in names:
        try:
            sample = dataset.read(name)
        except ImageError:
            continue
        for candidate, questions in asked_of(candidates, references, sample):
            largest = max(questions, key=lambda q: int(q[0].truth.sum()))
            image = candidate.predictor.embed(sample.image)
            for question in (q for q in largest if q.kind in ("click", "box")):
                mask = candidate.predictor.predict(question.prompt, image).mask
                caption = f"{candidate.name}, {name}, {question.kind}: " + (
                    f"IoU {mask_iou(mask, question.truth):.2f}"
                )
                results.append(Overlay(caption, overlay(sample.image, mask, question.prompt)))
    return results
