"""`distill` in the workers of Ray Train: the same loop, started and connected by Ray.

When a worker dies, Ray starts all of them again and the run goes on from its last state, as after
any kill. So the folder of the run must lie on a disk that all workers share; with `local`, that is
any.
"""

import tempfile

from mobilesam_export import packages
from mobilesam_export.cluster import RETRIES, absolute, connected
from mobilesam_export.distillation import run
from mobilesam_export.distillation.options import DistillOptions
from mobilesam_export.distillation.run import DistillResult
from mobilesam_export.distillation.state import LOG, Log
from mobilesam_export.errors import DistillationError, MeasurementError, UsageError, first_line
from mobilesam_export.files import read_json


def run_on_ray(options: DistillOptions, address: str, workers: int) -> DistillResult:
    """Train in workers of Ray, or go on where an earlier call with the same options was.

    Args:
        options: their batch is that of all workers together.
        address: see `cluster.connected`.
        workers: processes; each takes one GPU with `device` "cuda", otherwise one processor.

    Raises:
        MissingPackageError: Ray is not installed.
        UsageError: the batch cannot be divided over the workers.
        ClusterError: there is no such cluster.
        DistillationError: training cannot go on; what was reached is kept.
    """
    packages.require("ray", extra="ray")
    if options.batch % workers:
        raise UsageError(f"--batch {options.batch} cannot be divided over {workers} workers")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    options = absolute(options)
    with connected(address), tempfile.TemporaryDirectory() as scratch:
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


def _reason(exc: Exception) -> str:
    """The first line of what a worker has raised, or of Ray's own words."""
    failures = getattr(exc, "worker_failures", None) or {0: exc}
    worst = next(iter(failures.values()))
    return first_line(getattr(worst, "cause", None) or worst)


def _log(options: DistillOptions) -> Log:
    found = read_json(options.folder / LOG, MeasurementError)
    return Log(found["losses"], found["epochs"], found["seconds"], found["problems"])
