"""Two bundles -> is the candidate slower than the base, or worse in any figure without noise?

Both are loaded side by side in one process and run in pairs, one right after the other, whose
order alternates: what slows the machine slows both. After a few pairs both are loaded again,
because the memory layout is part of the noise. It ends as soon as there is a verdict.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mobilesam_export.benchmark.subject import graph_inputs
from mobilesam_export.benchmark.timing import Clock, gc_disabled, time_call
from mobilesam_export.bundle import golden
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.compare.comparison import Pairs
from mobilesam_export.compare.decision import Decision, Rule, Verdict, decide
from mobilesam_export.contract import SPLIT_FILES, Array
from mobilesam_export.errors import BackendError, UsageError
from mobilesam_export.session import Session

Open = Callable[[], Session]


@dataclass(frozen=True)
class Plan:
    """Schedule of a comparison of times.

    Attributes:
        rule: of the decision.
        pairs_per_block: between two loads; even, so that each order comes as often.
        warmup: runs of each after a load, not counted.
        max_seconds: for one component; then it is inconclusive.
    """

    rule: Rule = field(default_factory=Rule)
    pairs_per_block: int = 4
    warmup: int = 1
    max_seconds: float = 75.0


def check_comparable(base: Bundle, candidate: Bundle) -> None:
    """Refuse bundles whose files are not two versions of one export.

    Raises:
        UsageError: another target, image size or number of points, or files that are not timed.
    """
    candidate.contract.check_apart("compare times")
    for name, base_value, candidate_value in (
        ("target", base.target, candidate.target),
        ("image size", base.contract.size.option, candidate.contract.size.option),
        ("number of points", base.contract.points, candidate.contract.points),
    ):
        if base_value != candidate_value:
            raise UsageError(
                f"the base's {name} is {base_value} and the candidate's {candidate_value}; compare "
                "bundles that differ in recipe, weights or version only (`benchmark` takes any)"
            )


def opener(bundle: Bundle, graph: str, device: str, threads: int) -> Open:
    """A function that loads a file of a bundle into a fresh session."""
    return lambda: bundle.session(graph, device, threads)


def component_inputs(bundle: Bundle, graph: str) -> dict[str, Array]:
    """The inputs of a file: its own golden image and first prompt, prepared where it asks that."""
    case = golden.read(bundle.folder / "golden")[0]
    if graph not in SPLIT_FILES:
        return graph_inputs(case, bundle.contract, graph)
    embedded = {"image_embeddings": case.embeddings}
    if graph == "prepare":
        return embedded
    given = graph_inputs(case, bundle.contract, "decoder") | bundle.session("prepare").run(embedded)
    return {spec.name: given[spec.name] for spec in bundle.contract.decoder_prepared.inputs}


def compare_times(
    opens: tuple[Open, Open],
    inputs: dict[str, Array],
    plan: Plan,
    pairs: Pairs,
    clock: Clock = time.perf_counter,
) -> Decision:
    """Run pairs until there is a verdict, or as many as the plan allows.

    Args:
        opens: base and candidate.
        inputs: for both.
        plan: when to stop.
        pairs: filled as times come, so that an interruption loses none.
        clock: of seconds, for tests.

    Raises:
        BackendError: a file cannot be loaded or run.
    """
    start, size = clock(), plan.pairs_per_block
    while True:
        block: list[tuple[float, float]] = []
        pairs.blocks.append(block)
        _run_block(opens, inputs, plan, block, len(pairs.blocks), clock)
        decision = decide(pairs.complete(size), plan.rule)
        if decision.verdict is not Verdict.INCONCLUSIVE:
            return decision
        if decision.pairs + size > plan.rule.max_pairs or clock() - start > plan.max_seconds:
            return decision


def _run_block(
    opens: tuple[Open, Open],
    inputs: dict[str, Array],
    plan: Plan,
    block: list[tuple[float, float]],
    block_number: int,
    clock: Clock,
) -> None:
    """Load both, in alternating order, and run pairs."""
    parity = block_number % 2
    order = (parity, 1 - parity)
    sessions: list[Session | None] = [None, None]
    for index in order:
        sessions[index] = opens[index]()
    base, candidate = sessions
    assert base is not None  # noqa: S101 for mypy
    assert candidate is not None  # noqa: S101 for mypy
    _check_same_inputs(base, candidate)
    with gc_disabled():
        for session in (base, candidate):
            for _ in range(plan.warmup):
                session.run(inputs)
        for pair in range(plan.pairs_per_block):
            times = [0.0, 0.0]
            for index in (0, 1) if (pair + parity) % 2 == 0 else (1, 0):
                session = (base, candidate)[index]
                times[index], _ = time_call(lambda s=session: s.run(inputs), clock)  # type: ignore[misc]
            block.append((times[0], times[1]))


def _check_same_inputs(base: Session, candidate: Session) -> None:
    if base.runtime != candidate.runtime:
        raise BackendError(
            f"the base runs on {base.runtime} and the candidate on {candidate.runtime}"
        )


def not_comparable(reason: str) -> Decision:
    """The decision on times that cannot be compared."""
    return Decision(Verdict.NOT_COMPARABLE, reason=reason)
