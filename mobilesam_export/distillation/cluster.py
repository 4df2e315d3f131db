"""`distill` in the workers of Ray Train: the same loop, started and connected by Ray.

When a worker dies, Ray starts all of them again and the run goes on from its last state, as after
any kill. So the folder of the run must lie on a disk that all workers share; with `local`, that is
any.
"""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from mobilesam_export import packages
from mobilesam_export.distillation import run
from mobilesam_export.distillation.options import DistillOptions
from mobilesam_export.distillation.run import DistillResult
from mobilesam_export.distillation.state import LOG, Log
from mobilesam_export.errors import DistillationError, MeasurementError, UsageError, first_line
from mobilesam_export.files import read_json

LOCAL = "local"  # instead of the address of a cluster
RETRIES = 3
KNOCK_SECONDS = 10


def run_on_ray(options: DistillOptions, address: str, workers: int) -> DistillResult:
    """Train in workers of Ray, or go on where an earlier call with the same options was.

    Args:
        options: their batch is that of all workers together.
        address: HOST:PORT or ray://HOST:PORT of a cluster, or LOCAL for this machine.
        workers: processes; each takes one GPU with `device` "cuda", otherwise one processor.

    Raises:
        MissingPackageError: Ray is not installed.
        UsageError: the batch cannot be divided over the workers.
        DistillationError: there is no such cluster, or training cannot go on; what was reached is
            kept.
    """
    packages.require("ray", extra="ray")
    if options.batch % workers:
        raise UsageError(f"--batch {options.batch} cannot be divided over {workers} workers")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    options = _absolute(options)
    with _connected(address), tempfile.TemporaryDirectory() as scratch:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"options": options},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=options.device == "cuda"),
            run_config=RunConfig(
                failure_config=FailureConfig(max_failures=RETRIES), storage_path=scratch
            ),
        )
        try:
            trainer.fit()
        except Exception as exc:  # Ray's, around what a worker has raised
            raise DistillationError(f"Ray gave up: {_reason(exc)}") from exc
    return DistillResult(options, _log(options), main=True)


def _work(config: dict[str, DistillOptions]) -> None:
    """What a worker does; Ray has connected it with the others."""
    run.run(config["options"])


@contextmanager
def _connected(address: str) -> Iterator[None]:
    import ray

    try:
        if address != LOCAL:
            _knock(address)
        ray.init(address=None if address == LOCAL else address, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as exc:
        raise DistillationError(f"no Ray at {address}: {first_line(exc)}") from exc
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody answers, which takes Ray itself minutes.

    Raises:
        OSError: nobody does. ValueError: it is no [ray://]HOST:PORT.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("expected HOST:PORT, ray://HOST:PORT or local")
    socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def _absolute(options: DistillOptions) -> DistillOptions:
    """With paths that mean the same in a worker's folder."""
    found = {}
    for field in fields(options):
        value = getattr(options, field.name)
        names_a_file = isinstance(value, str) and Path(value).exists()
        if isinstance(value, Path) or names_a_file:
            found[field.name] = type(value)(Path(value).absolute())
    return replace(options, **found)


def _reason(exc: Exception) -> str:
    """The first line of what a worker has raised, or of Ray's own words."""
    failures = getattr(exc, "worker_failures", None) or {0: exc}
    worst = next(iter(failures.values()))
    return first_line(getattr(worst, "cause", None) or worst)


def _log(options: DistillOptions) -> Log:
    found = read_json(options.folder / LOG, MeasurementError)
    return Log(found["losses"], found["epochs"], found["seconds"], found["problems"])
