"""The files of a folder, ready to run."""

from pathlib import Path

from mobilesam_export.backends import Backend
from mobilesam_export.contract import Contract, GraphSpec
from mobilesam_export.predictor import Predictor, whole
from mobilesam_export.session import Session


def load_graph(
    folder: Path, backend: Backend, spec: GraphSpec, device: str = "", threads: int = 0
) -> Session:
    """One file.

    Args:
        folder: a bundle's, whole or not yet.
        backend: of the files.
        spec: of the file's graph.
        device: a key of `backend.devices()`, or "" for the default.
        threads: CPU threads of one run, 0 for the runtime's own choice.

    Raises:
        BackendError: it cannot be loaded or run, or there is no such device here.
        BundleError: it is damaged.
    """
    path = folder / f"{spec.name}{backend.suffix}"
    return backend.load(path, spec, device, threads)


def load_predictor(
    folder: Path,
    backend: Backend,
    contract: Contract,
    device: str = "",
    threads: int = 0,
    *,
    batch: bool = False,
) -> Predictor:
    """Every file but `decoder_batch`; arguments and errors as of `load_graph`.

    `batch`: and `decoder_batch`, if the contract has it.
    """
    sessions = {
        spec.name: load_graph(folder, backend, spec, device, threads)
        for spec in contract.graphs
        if batch or spec.name != "decoder_batch"
    }
    if contract.fused:
        return whole(sessions["segmenter"], contract)
    return Predictor(contract=contract, **sessions)
