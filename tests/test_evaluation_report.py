"""What `evaluate` says of candidates that are not two files."""

from dataclasses import replace

from mobilesam_export.evaluation.report import figures_table, render
from mobilesam_export.evaluation.scores import Evaluation, Score, evaluate_images
from mobilesam_export.tables import NONE
from tests.test_evaluation import SCENES, candidate


def test_a_fused_file_has_one_time_and_no_encoders() -> None:
    one = candidate(SCENES, 1)
    fused = replace(one, predictor=replace(one.predictor, segmenter=one.predictor.decoder))
    evaluation = Evaluation({one.name: Score()})
    for record in evaluate_images([fused], {}, SCENES, SCENES.names[:1]):
        evaluation.add(record)
    assert list(evaluation.scores[one.name].latency()) == ["decoder"]
    *_, encoder, decoder = figures_table(evaluation, {one.name: 1})[1]
    assert encoder == NONE
    assert decoder.isdigit()
    assert "<circle" in render("", evaluation, {one.name: 1}, [])
