"""Pairs of times -> faster, same, slower or inconclusive. No clock in here.

A pair is one run of each bundle, one right after the other, so that what slows the machine slows
both. Pairs come in blocks: every block has freshly loaded sessions, whose memory happens to lie
well or badly for the whole block. So the bootstrap resamples blocks, not pairs, and
the interval is as wide as blocks differ. Few blocks make a percentile bootstrap too narrow, so that
its percentiles are moved outwards as Student's t asks (the expanded percentile interval of
Hesterberg, What Teachers Should Know About the Bootstrap, 2015, section 4.3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Block = Sequence[tuple[float, float]]  # (base, candidate) in ms, one pair after the other


class Verdict(StrEnum):
    """The candidate's times, relative to the base's."""

    FASTER = "faster"
    SAME = "same"
    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Rule:
    """Conditions of a verdict.

    Attributes:
        limit: ratio candidate / base above which the candidate is slower, more than 1.
        confidence: of the interval.
        min_blocks: no verdict with fewer: their bootstrap would say little.
        max_pairs: the decision stays inconclusive after so many.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same pairs give the same verdict.
    """

    limit: float = 1.10
    confidence: float = 0.95
    min_blocks: int = 6
    max_pairs: int = 200
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Decision:
    """The verdict on one component.

    Attributes:
        verdict: slower if the whole interval is above the limit, faster if it is all below
            1 / limit, same if it is not above the limit, else inconclusive.
        ratio: median of candidate / base over all pairs; 0 if there are none.
        low, high: ends of the bootstrap interval of that median; 0 and infinity before there are
            enough blocks.
        pairs, blocks: their numbers.
        more_pairs: estimate of how many more would settle it; 0 unless inconclusive.
        reason: why there is no verdict on times at all.
    """

    verdict: Verdict
    ratio: float = 0.0
    low: float = 0.0
    high: float = math.inf
    pairs: int = 0
    blocks: int = 0
    more_pairs: int = 0
    reason: str = ""


def decide(blocks: Sequence[Block], rule: Rule) -> Decision:
    """Judge the pairs measured so far.

    Args:
        blocks: each with at least one pair of positive times.
        rule: limit and confidence.
    """
    logs = [np.log([candidate / base for base, candidate in block]) for block in blocks]
    pairs = sum(len(block) for block in logs)
    if not pairs:
        return Decision(Verdict.INCONCLUSIVE, more_pairs=rule.max_pairs)
    ratio = float(np.exp(np.median(np.concatenate(logs))))
    if len(logs) < rule.min_blocks:
        missing_pairs = math.ceil(pairs / len(logs) * (rule.min_blocks - len(logs)))
        return Decision(
            Verdict.INCONCLUSIVE, ratio, pairs=pairs, blocks=len(logs), more_pairs=missing_pairs
        )
    low, high = (float(np.exp(end)) for end in bootstrap_median(logs, rule))
    verdict = _verdict(low, high, rule.limit)
    more_pairs = (
        _more_pairs(ratio, low, high, pairs, rule) if verdict is Verdict.INCONCLUSIVE else 0
    )
    return Decision(verdict, ratio, low, high, pairs, len(logs), more_pairs)


def bootstrap_median(blocks: Sequence[NDArray[np.float64]], rule: Rule) -> tuple[float, float]:
    """Expanded percentile interval of the median of all pairs; resamples whole blocks."""
    random = np.random.default_rng(rule.seed)
    width = max(len(block) for block in blocks)
    table = np.full((len(blocks), width), np.nan)  # the last block may be shorter
    for row, block in zip(table, blocks, strict=True):
        row[: len(block)] = block
    resamples = table[random.integers(0, len(blocks), (rule.resamples, len(blocks)))]
    flat = resamples.reshape(rule.resamples, -1)
    medians = np.nanmedian(flat, axis=1) if np.isnan(table).any() else np.median(flat, axis=1)
    tail = expanded_tail(rule.confidence, len(blocks))
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(low), float(high)


def expanded_tail(confidence: float, blocks: int) -> float:
    """Share of resamples to leave out at each end, 2 blocks or more: less than half of the rest."""
    from scipy.special import stdtrit

    t = float(stdtrit(blocks - 1, (1 + confidence) / 2))
    return NormalDist().cdf(-t * math.sqrt(blocks / (blocks - 1)))


def _verdict(low: float, high: float, limit: float) -> Verdict:
    if low > limit:
        return Verdict.SLOWER
    if high < 1 / limit:
        return Verdict.FASTER
    return Verdict.SAME if high <= limit else Verdict.INCONCLUSIVE


def _more_pairs(ratio: float, low: float, high: float, pairs: int, rule: Rule) -> int:
    """Pairs until the interval's end reaches the limit: it shrinks by the root of their number."""
    distance = abs(math.log(ratio / rule.limit))
    side = math.log(high / ratio) if ratio < rule.limit else math.log(ratio / low)
    if distance == 0 or side <= 0:
        return rule.max_pairs
    return max(1, min(math.ceil(pairs * ((side / distance) ** 2 - 1)), 100 * rule.max_pairs))
