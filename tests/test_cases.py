"""The prompts that files are held to: about the largest object whose best mask is no near tie."""

import numpy as np
import pytest

from mobilesam_export.contract import Array, Contract
from mobilesam_export.predictor import Predictor
from mobilesam_export.scenes import Scene, masked_scene
from mobilesam_export.session import Session
from mobilesam_export.target import load_target
from mobilesam_export.verification.cases import CLEAR, OBJECTS, reference_cases

CONTRACT = Contract(256, 6, load_target("coreml").graph)
PROMPTS = 5  # for each object
SCENE = masked_scene(1, 150, 200)


def answers(leads: list[float]) -> tuple[Predictor, list[Array]]:
    """A reference whose best mask is ahead by `leads[i]` for object i, and what it was asked."""
    asked: list[Array] = []

    def decode(inputs: dict[str, Array]) -> dict[str, Array]:
        lead = leads[len(asked) // PROMPTS]
        asked.append(inputs["point_coords"])
        iou = np.array([[0.9, 0.5, 0.5 + lead, 0.1]], np.float32)
        return {"low_res_masks": np.zeros((1, 4, 64, 64), np.float32), "iou_predictions": iou}

    embeddings = {"image_embeddings": np.zeros((1, 256, 16, 16), np.float32)}
    encoder = Session(lambda _: embeddings, "fake")
    return Predictor(encoder, Session(decode, "fake"), CONTRACT), asked


def chosen(leads: list[float]) -> tuple[int, int]:
    """Which object is asked about, counted from the largest, and how many prompts were tried."""
    predictor, asked = answers(leads)
    (case,) = reference_cases(predictor, {"scene": SCENE})
    x, y, _ = case.prompts[0].prompt.points[0]
    (place,) = [i for i, mask in enumerate(by_size(SCENE)) if mask[int(y), int(x)]]
    return place, len(asked)


def by_size(scene: Scene) -> list[Array]:
    return sorted(scene.masks, key=np.count_nonzero, reverse=True)


@pytest.mark.parametrize(
    ("leads", "place", "tried"),
    [
        ([CLEAR + 0.01, 0.4, 0.4, 0.4], 0, 1),
        ([0.001, 0.0, CLEAR + 0.01, 0.4], 2, 3),
        ([0.001, 0.003, 0.002, 0.0], 1, OBJECTS),
    ],
    ids=["the largest", "the first clear one", "the clearest of those tried"],
)
def test_the_object_that_is_asked_about(leads: list[float], place: int, tried: int) -> None:
    assert len(SCENE.masks) >= OBJECTS
    assert chosen(leads) == (place, tried * PROMPTS)
