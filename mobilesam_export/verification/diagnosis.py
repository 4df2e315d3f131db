"""Where does a file go wrong? Its tensors for two images, in order -> the first that cannot be.

Asked only when `verify` has failed. There is no reference inside a converted graph, so what is
looked for is wrong in any network: numbers that are not finite, as after an overflow, a tensor that
is the same for two different images, and one of which a large part is stuck at its largest or
smallest value, as after a clamp. A file that is merely inaccurate has no such layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam_export import prompts
from mobilesam_export.contract import Array
from mobilesam_export.predictor import Predictor
from mobilesam_export.session import Observe
from mobilesam_export.verification.cases import ImageCase

FLOAT16_MAX = 65504.0
MASKED = -2048.0  # numbers below are attention logits of empty prompt slots, meant to be constant
SMALLEST = 1024  # numbers; small tensors (labels, switches, sizes) are often constant or two-valued
STUCK_SHARE = 0.25  # of a tensor at one value other than 0, which ReLU and padding give
SAMPLED = 4096  # numbers that are kept of a tensor, to compare two images


@dataclass(frozen=True)
class Summary:
    """What is kept of one tensor.

    Attributes:
        name: of the tensor, with the operator that makes it.
        problem: what is wrong with it by itself; "" if nothing is.
        sample: some of its numbers.
    """

    name: str
    problem: str
    sample: Array


def summarize(name: str, tensor: Array) -> Summary:
    """Look at one floating-point tensor."""
    values = np.asarray(tensor, np.float32).ravel()
    step = max(1, values.size // SAMPLED) | 1
    return Summary(name, _problem(values), values[::step].copy())


def _problem(values: Array) -> str:
    if not np.isfinite(values).all():
        return "has NaN or infinity"
    low, high = float(values.min()), float(values.max())
    for extreme in (low, high):
        share = float(np.mean(values == extreme))
        if share > STUCK_SHARE and extreme != 0 and extreme > MASKED:
            return f"is stuck at {extreme:.3g} in {share:.0%} of its numbers"
    return ""


def first_wrong(observe: Observe, first: dict[str, Array], second: dict[str, Array]) -> str:
    """Run a graph on two different inputs; the first tensor that is wrong, and how, or "".

    Args:
        observe: calls its second argument with the name and value of each tensor that depends on
            the image, in order; see `contract.Session`.
        first: inputs for one image.
        second: inputs for another.
    """
    found: list[Summary] = []

    def keep(name: str, tensor: Array) -> None:
        if tensor.size >= SMALLEST:
            found.append(summarize(name, tensor))

    with np.errstate(all="ignore"):
        observe(first, keep)
        before = {item.name: item for item in found}
        found = []
        observe(second, keep)
        for item in found:
            other = before.get(item.name)
            problem = (other.problem if other else "") or item.problem
            if not problem and other is not None and np.array_equal(item.sample, other.sample):
                problem = "is the same for two different images"
            if problem:
                return f"{item.name} {problem}"
    return ""


def where(predictor: Predictor, cases: Sequence[ImageCase]) -> str:
    """The graph and its first tensor that cannot be right; empty if there is none.

    Looks into the encoder, and if nothing is wrong there into the decoder.

    Args:
        predictor: the files, on a runtime that shows what is inside.
        cases: two images or more; the first two are compared.
    """
    contract, size = predictor.contract, cases[0].embedded.size
    prompt = cases[0].prompts[0].prompt
    images = [prompts.encoder_inputs(case.image, contract) for case in cases[:2]]
    asked = [prompts.decoder_inputs(prompt, case.embeddings, size, contract) for case in cases[:2]]
    for name, session, inputs in (
        ("encoder", predictor.encoder, images),
        ("decoder", predictor.decoder, asked),
    ):
        if session.observe is not None:
            found = first_wrong(session.observe, inputs[0], inputs[1])
            if found:
                return f"{name}: {found}"
    return ""
