"""PyTorch as subjects of a benchmark: the checkpoint of a bundle, run in several modes."""

from collections.abc import Callable, Sequence

import torch

from mobilesam_export.backends import reference
from mobilesam_export.benchmark.measure import Subject
from mobilesam_export.benchmark.pytorch import DTYPES, MODES, PytorchMode, open_graph
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.checkpoint.load import load_matching_model
from mobilesam_export.contract import plain_contract
from mobilesam_export.errors import UsageError
from mobilesam_export.progress import step
from mobilesam_export.session import Session
from mobilesam_export.target import Tolerance
from mobilesam_export.verification import cases

TOLERANCES = {
    # Another order of sums: 1e-5 on embeddings of 4 is 120 dB.
    "float32": Tolerance(
        embedding_psnr_db=100, logits_error=5e-5, iou_max_abs_error=1e-3, mask_iou=0.999
    ),
    # As of the float16 recipes in targets/.
    "float16": Tolerance(
        embedding_psnr_db=60, logits_error=0.018, iou_max_abs_error=0.01, mask_iou=0.99
    ),
    # Eight bits of fraction, a 256th: embeddings of 4 are off by some hundredths. The requirement
    # is the mask; the other limits only catch an answer that has broken down.
    "bfloat16": Tolerance(
        embedding_psnr_db=25, logits_error=0.27, iou_max_abs_error=0.1, mask_iou=0.99
    ),
}


def parse_modes(texts: Sequence[str], device: str) -> list[PytorchMode]:
    """MODE or MODE:PRECISION, as on the command line.

    Raises:
        UsageError: there is no such mode, precision, or device of PyTorch's.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"PyTorch runs on --device cpu or cuda, not on {device}")
    modes = []
    for text in texts:
        mode, _, precision = text.partition(":")
        precision = precision or "float32"
        if mode not in MODES or precision not in DTYPES:
            raise UsageError(
                f"--pytorch {text}: expected one of {', '.join(MODES)}, "
                f"and optionally one of :{', :'.join(DTYPES)}"
            )
        modes.append(PytorchMode(mode, precision, device))
    return modes


def pytorch_subjects(
    bundle: Bundle, source: str | None, modes: Sequence[PytorchMode], threads: int
) -> list[Subject]:
    """The checkpoint of a bundle, in each of these modes.

    Args:
        bundle: the bundle; its sizes are taken.
        source: its checkpoint, or None for the one that the manifest names.
        modes: to run it in.
        threads: for torch, for this whole process.

    Raises:
        UsageError: `source` holds other weights. CheckpointError: it cannot be read.
    """
    torch.set_num_threads(threads)
    with step("Loading the checkpoint for PyTorch"):
        sam = load_matching_model(bundle.provenance, source, bundle.contract.image_size)
        contract = plain_contract(bundle.contract.image_size, bundle.contract.max_points)
        case = cases.reference_cases(reference.load(sam, contract))[0]

    def opener(mode: PytorchMode) -> Callable[[str], Session]:
        return lambda graph: open_graph(sam, contract, graph, mode)

    return [
        Subject(
            name=f"pytorch {mode}",
            device=mode.device,
            runtime=f"PyTorch {torch.__version__}",
            contract=contract,
            case=case,
            tolerance=TOLERANCES[mode.precision],
            open=opener(mode),
            reason=mode.why_unavailable(),
        )
        for mode in modes
    ]
