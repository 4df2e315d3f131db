"""Verdicts on made-up times: known answers, laws that hold for all, and noise like a machine's."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam_export.compare.decision import (
    Decision,
    Rule,
    Verdict,
    bootstrap_median,
    decide,
    expanded_tail,
)

RULE = Rule(resamples=500)
Blocks = list[list[tuple[float, float]]]
PAIRS = 4  # in a block
TIME = st.floats(0.1, 1e4)
BLOCKS = st.lists(st.lists(st.tuples(TIME, TIME), min_size=1, max_size=5), min_size=6, max_size=12)


def constant(ratio: float, blocks: int = 6) -> Blocks:
    return [[(100.0, 100.0 * ratio)] * PAIRS for _ in range(blocks)]


def noisy(random: np.random.Generator, ratio: float, blocks: int) -> Blocks:
    """Times of a busy machine: bursts of up to 3x that last for pairs, runs that differ by 6.6 %,
    and an offset of each pair of sessions: as recorded here on a decoder with one thread.
    """
    made = []
    for _ in range(blocks):
        offset, block = random.normal(0, 0.03), []
        for _ in range(PAIRS):
            burst = 3.0 if random.random() < 0.3 else 1.0
            base, candidate = 100 * burst * np.exp(random.normal(0, 0.066, 2))
            if random.random() < 0.1:  # a burst that hits one of the two
                base *= 2
            elif random.random() < 0.1:
                candidate *= 2
            block.append((float(base), float(candidate * ratio * math.exp(offset))))
        made.append(block)
    return made


def until_settled(seed: int, ratio: float) -> Decision:
    """As `compare_times` goes on, with made-up times."""
    random = np.random.default_rng(seed)
    blocks: Blocks = []
    while True:
        blocks += noisy(random, ratio, 1)
        decision = decide(blocks, RULE)
        if decision.verdict is not Verdict.INCONCLUSIVE or decision.pairs >= RULE.max_pairs:
            return decision


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (0.5, Verdict.FASTER),
        (0.95, Verdict.SAME),
        (1.0, Verdict.SAME),
        (1.09, Verdict.SAME),
        (1.11, Verdict.SLOWER),
        (2.0, Verdict.SLOWER),
    ],
)
def test_times_without_noise(ratio: float, verdict: Verdict) -> None:
    decision = decide(constant(ratio), RULE)
    assert decision.verdict is verdict
    assert decision.ratio == pytest.approx(ratio)
    assert [decision.low, decision.high] == pytest.approx([ratio, ratio])
    assert (decision.pairs, decision.blocks, decision.more_pairs) == (24, 6, 0)


def test_too_few_blocks_are_inconclusive_however_clear() -> None:
    decision = decide(constant(3.0, blocks=5), RULE)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.more_pairs == PAIRS
    assert decision.high == math.inf


def test_nothing_measured_is_inconclusive() -> None:
    assert decide([], RULE) == Decision(Verdict.INCONCLUSIVE, more_pairs=RULE.max_pairs)


def test_the_tails_are_students_and_become_normal() -> None:
    """Six blocks: t of 5 degrees is 2.5706, times the root of 6/5; 0.0024 of the normal's tail."""
    assert expanded_tail(0.95, 6) == pytest.approx(0.00243, abs=1e-5)
    assert expanded_tail(0.95, 10_000) == pytest.approx(0.025, abs=1e-4)


def test_one_wild_block_does_not_decide() -> None:
    """A median of pairs and a bootstrap of blocks: five equal ones outweigh one at three times."""
    decision = decide([*constant(1.0, blocks=9), *constant(3.0, blocks=1)], RULE)
    assert decision.verdict is Verdict.SAME


def test_blocks_that_disagree_are_inconclusive_and_say_how_many_more() -> None:
    blocks = [*constant(1.0, blocks=3), *constant(1.15, blocks=3)]
    decision = decide(blocks, RULE)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.more_pairs >= 1


def test_more_pairs_is_what_the_root_law_says() -> None:
    """Twice as wide as its distance from the limit: four times the pairs, three times more."""
    logs = [np.log([ratio] * PAIRS) for ratio in (1.0, 1.0, 1.0, 1.2, 1.2, 1.2, 1.05)]
    low, high = bootstrap_median(logs, RULE)
    decision = decide([[(1.0, float(np.exp(x))) for x in block] for block in logs], RULE)
    assert decision.verdict is Verdict.INCONCLUSIVE
    side, distance = high - math.log(1.05), math.log(1.10) - math.log(1.05)
    assert decision.more_pairs == math.ceil(28 * ((side / distance) ** 2 - 1))
    assert low < math.log(1.10) < high


@settings(deadline=None, max_examples=60)
@given(BLOCKS)
def test_the_verdict_is_what_the_interval_says(blocks: Blocks) -> None:
    decision = decide(blocks, RULE)
    assert decision.low <= decision.high
    assert (decision.verdict is Verdict.SLOWER) == (decision.low > RULE.limit)
    assert (decision.verdict is Verdict.FASTER) == (decision.high < 1 / RULE.limit)
    assert (decision.more_pairs > 0) == (decision.verdict is Verdict.INCONCLUSIVE)
    assert decision == decide(blocks, RULE), "the same pairs give the same verdict"


@settings(deadline=None, max_examples=60)
@given(BLOCKS, st.floats(0.1, 10))
def test_a_slower_machine_changes_nothing(blocks: Blocks, factor: float) -> None:
    slowed = [[(a * factor, b * factor) for a, b in block] for block in blocks]
    here, there = decide(blocks, RULE), decide(slowed, RULE)
    assert there.ratio == pytest.approx(here.ratio)
    assert [there.low, there.high] == pytest.approx([here.low, here.high])


@settings(deadline=None, max_examples=60)
@given(BLOCKS)
def test_swapping_base_and_candidate_turns_the_interval_over(
    blocks: Blocks,
) -> None:
    here = decide(blocks, RULE)
    there = decide([[(b, a) for a, b in block] for block in blocks], RULE)
    assert there.ratio == pytest.approx(1 / here.ratio)
    assert there.low == pytest.approx(1 / here.high)
    assert there.high == pytest.approx(1 / here.low)


@settings(deadline=None, max_examples=60)
@given(BLOCKS, st.floats(1.01, 3))
def test_a_slower_candidate_is_never_judged_better(blocks: Blocks, factor: float) -> None:
    order = [Verdict.FASTER, Verdict.SAME, Verdict.INCONCLUSIVE, Verdict.SLOWER]
    slowed = [[(a, b * factor) for a, b in block] for block in blocks]
    before, after = decide(blocks, RULE), decide(slowed, RULE)
    assert order.index(after.verdict) >= order.index(before.verdict)
    assert after.ratio == pytest.approx(before.ratio * factor)


def test_equal_files_on_a_busy_machine_are_not_called_slower() -> None:
    verdicts = [until_settled(seed, 1.0).verdict for seed in range(100)]
    assert verdicts.count(Verdict.SLOWER) <= 1


def test_a_slowdown_of_15_percent_is_found_on_a_busy_machine() -> None:
    verdicts = [until_settled(seed, 1.15).verdict for seed in range(100)]
    assert verdicts.count(Verdict.SLOWER) >= 95


def interval_width(blocks: Sequence[Sequence[tuple[float, float]]]) -> float:
    decision = decide(blocks, RULE)
    return math.log(decision.high / decision.low)


def test_pairs_of_one_block_are_not_taken_for_independent() -> None:
    """Twelve blocks with offsets of their own, four pairs each, against 48 blocks of one."""
    random = np.random.default_rng(0)
    offsets = random.normal(0, 0.1, 12)
    grouped = [[(1.0, float(np.exp(o)))] * PAIRS for o in offsets]
    scattered = [[pair] for block in grouped for pair in block]
    assert interval_width(grouped) > 1.5 * interval_width(scattered)
