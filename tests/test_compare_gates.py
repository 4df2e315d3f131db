"""Gates on figures that are worked out by hand."""

import numpy as np
import pytest

from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.compare.comparison import Comparison, Pairs
from mobilesam_export.compare.decision import Decision, Verdict
from mobilesam_export.compare.gates import LIMITS, Gate, judge_figures, judge_masks
from mobilesam_export.compare.junit import junit
from mobilesam_export.compare.run import parse_limits
from mobilesam_export.compare.text import outcome
from mobilesam_export.errors import UsageError
from mobilesam_export.verification.status import Status

PASSED, FAILED, UNVERIFIED = Status


def figures(**values: int | None) -> dict[str, dict[str, int | None]]:
    return {"encoder": values, "decoder": {}}


def gate(base: int | None, candidate: int | None, limit: float) -> Gate:
    return judge_figures(figures(macs=base), figures(macs=candidate), {"macs": limit})[0]


@pytest.mark.parametrize(
    ("base", "candidate", "limit", "status"),
    [
        (100, 100, 1.0, PASSED),
        (100, 101, 1.0, FAILED),
        (100, 101, 1.01, PASSED),
        (100, 1, 1.0, PASSED),
        (0, 1, 5.0, FAILED),
        (0, 0, 1.0, PASSED),
        (None, 100, 1.0, UNVERIFIED),
        (100, None, 1.0, UNVERIFIED),
    ],
)
def test_a_figure_is_held_to_its_ratio(
    base: int | None, candidate: int | None, limit: float, status: Status
) -> None:
    assert gate(base, candidate, limit).status is status


def test_the_worst_mask_is_judged_and_named() -> None:
    full, half = np.ones((2, 2), bool), np.array([[True, True], [False, False]])
    base = {"a, click": full, "a, box": full}
    found = judge_masks(base, {"a, click": full, "a, box": half}, 0.6)
    assert (found.candidate, found.status, found.reason) == (0.5, FAILED, "a, box")
    assert judge_masks(base, base, 1.0).status is PASSED


def test_masks_of_other_prompts_are_unverified() -> None:
    mask = np.ones((2, 2), bool)
    assert judge_masks({"a": mask}, {"b": mask}, 0.5).status is UNVERIFIED
    assert judge_masks({}, {"b": mask}, 0.5).status is UNVERIFIED


@pytest.mark.parametrize(
    ("status", "word"), [(PASSED, "pass"), (FAILED, "fail"), (UNVERIFIED, "unverified")]
)
def test_json_has_the_words_that_scripts_read(status: Status, word: str) -> None:
    values = Gate("encoder", "macs", 1, 2, 1.0, status, "why").as_dict()
    assert values == {
        "component": "encoder", "figure": "macs", "base": 1, "candidate": 2, "limit": 1.0,
        "verdict": word, "reason": "why",
    }  # fmt: skip


def comparison(verdict: Verdict, status: Status) -> Comparison:
    return Comparison(
        base="old",
        candidate="new",
        machine=this_machine(),
        threads=1,
        gates=[Gate("encoder", "macs", 1, 2, 1.0, status)],
        decisions={"decoder": Decision(verdict, reason="why")},
        pairs={"decoder": Pairs([[(1.0, 2.0)], [(1.0, 2.0), (3.0, 4.0)]])},
    )


@pytest.mark.parametrize(
    ("verdict", "status", "said"),
    [
        (Verdict.SAME, PASSED, "passed"),
        (Verdict.INCONCLUSIVE, UNVERIFIED, "passed"),
        (Verdict.SLOWER, PASSED, "FAILED: decoder is slower"),
        (Verdict.FASTER, FAILED, "FAILED: encoder macs"),
        (Verdict.SLOWER, FAILED, "FAILED: decoder is slower; encoder macs"),
    ],
)
def test_only_a_slower_component_or_a_broken_limit_fails(
    verdict: Verdict, status: Status, said: str
) -> None:
    found = comparison(verdict, status)
    assert outcome(found) == said
    assert (found.status is FAILED) == said.startswith("FAILED")
    assert f'failures="{len(found.failures)}"' in junit(found)


def test_an_interval_without_end_is_null_in_json_and_raw_pairs_are_there() -> None:
    found = comparison(Verdict.INCONCLUSIVE, PASSED).as_dict()["decisions"]["decoder"]
    assert found["high"] is None
    assert found["blocks_ms"] == [[(1.0, 2.0)], [(1.0, 2.0), (3.0, 4.0)]]


def test_limits_are_changed_one_by_one() -> None:
    limits = parse_limits(["time=1.5", "mask_iou=0.9"])
    assert (limits["time"], limits["mask_iou"], limits["ops"]) == (1.5, 0.9, LIMITS["ops"])
    for text in ("time=0.9", "ops=nan", "macs=inf", "nothing=1", "ops"):
        with pytest.raises(UsageError, match="--limit"):
            parse_limits([text])
