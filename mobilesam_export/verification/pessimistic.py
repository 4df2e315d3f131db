"""Graphs run in pessimistic float16, and what becomes of their answers; see `half`."""

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from mobilesam_export.contract import Array
from mobilesam_export.graphs import Graph, as_session
from mobilesam_export.metrics import mask_iou, psnr_db
from mobilesam_export.predictor import EmbeddedImage, Predictor
from mobilesam_export.session import Session
from mobilesam_export.verification.cases import ImageCase
from mobilesam_export.verification.float16 import Float16
from mobilesam_export.verification.half import FLOAT16_MAX, PessimisticFloat16

FLOAT16_NORMAL = 2.0**-14  # the smallest number with all eleven bits


def measure(
    predictor: Predictor,
    halves: Mapping[str, PessimisticFloat16],
    expected: Sequence[ImageCase],
) -> Float16:
    """Ask what `verify` asks, of graphs that compute in pessimistic float16.

    Args:
        predictor: of sessions from `open_graph` or a backend's `stepwise`. Further decoders that it
            has are asked, too.
        halves: what each graph computes in, by its name.
        expected: the reference's answers.
    """
    decoders = _decoders(predictor)
    psnrs, ious, found = [], [], []
    with np.errstate(all="ignore"):  # overflow is a finding, not a warning
        for case in expected:
            image = decoders[0].embed(case.image)
            found.append(image.embeddings)
            psnrs.append(psnr_db(image.embeddings, case.embeddings))
            for decoder in decoders:
                ious += _mask_ious(decoder, image, case)
        distance = np.divide(_distance(found), _distance([case.embeddings for case in expected]))
    pairs = halves.items()
    largest = max((half.largest.value, f"{name}: {half.largest.tensor}") for name, half in pairs)
    faintest = min((half.faintest.value, f"{name}: {half.faintest.tensor}") for name, half in pairs)
    return Float16(
        embedding_psnr_db=min(psnrs),
        mask_iou=min(ious),
        distance=float(distance),
        headroom=FLOAT16_MAX / largest[0] if largest[0] else math.inf,
        tensor=largest[1],
        floor=faintest[0] / FLOAT16_NORMAL,
        faintest=faintest[1],
    )


def _decoders(predictor: Predictor) -> list[Predictor]:
    """The decoder alone, `decoder_batch` and `decoder_prepared`, as far as there are any."""
    alone = replace(predictor, decoder_batch=None, prepare=None, decoder_prepared=None)
    found = [alone]
    if predictor.decoder_batch is not None:
        found.append(replace(alone, decoder_batch=predictor.decoder_batch))
    if predictor.decoder_prepared is not None:
        found.append(replace(predictor, decoder_batch=None))
    return found


def _mask_ious(decoder: Predictor, image: EmbeddedImage, case: ImageCase) -> list[float]:
    """Of every prompt, on the embedding that was found."""
    image = decoder.with_prepared(image)
    prepared = image.prepared is not None  # the plain decoder answers prompts with a mask then
    asked = [item for item in case.prompts if not prepared or item.prompt.mask_input is None]
    outputs = decoder.decode_all([item.prompt for item in asked], image)
    return [
        mask_iou(decoder.answer(item.prompt, out, image.size).mask, item.answer.mask)
        for item, out in zip(asked, outputs, strict=True)
    ]


def _distance(embeddings: Sequence[Array]) -> float:
    """Mean absolute difference of the first two; not a number where one has such values."""
    first, second = (value.astype(np.float64) for value in embeddings[:2])
    return float(np.abs(first - second).mean())


def open_graph(graph: Graph, half: PessimisticFloat16, islands: Collection[str]) -> Session:
    """An export form that computes in pessimistic float16.

    Args:
        graph: it stays as it is.
        half: what it computes in; has the extremes afterwards.
        islands: names of module classes that stay float32.
    """
    module = copy.deepcopy(graph.module)
    wide = {part for part in module.modules() if type(part).__name__ in islands}
    kept = {id(value) for part in wide for value in (*part.parameters(), *part.buffers())}
    for value in (*module.parameters(), *module.buffers()):
        if value.dtype == torch.float32 and id(value) not in kept:
            value.data = value.data.half().float()
    for name, part in module.named_modules():
        part.register_forward_pre_hook(_entered(half, name, is_wide=part in wide))
        part.register_forward_hook(_left(half, name, is_wide=part in wide))
    session = as_session(replace(graph, module=module))

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        with half:
            return session.run(inputs)

    return replace(session, run=run, runtime="PyTorch, pessimistic float16")


def _entered(half: PessimisticFloat16, name: str, *, is_wide: bool) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: object) -> None:
        half.where = name
        half.wide |= is_wide

    return hook


def _left(half: PessimisticFloat16, name: str, *, is_wide: bool) -> Callable[..., object]:
    def hook(module: nn.Module, inputs: object, outputs: object) -> object:
        half.where = name.rpartition(".")[0]
        if not is_wide:
            return None
        half.wide = False  # islands are not nested; what leaves one is float16 again
        return half.all_rounded(outputs, f"{name} output")

    return hook
