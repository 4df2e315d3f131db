"""Ray: work that is divided over the processes of this machine or of a cluster."""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mobilesam_export import packages
from mobilesam_export.errors import ClusterError, MobileSamExportError, first_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LOCAL = "local"  # instead of the address of a cluster
RETRIES = 3  # of what a killed process was doing
KNOCK_SECONDS = 10
Item = TypeVar("Item")
Result = TypeVar("Result")
Options = TypeVar("Options", bound="DataclassInstance")


@contextmanager
def connected(address: str, processors: int | None = None) -> Iterator[None]:
    """Ray, for as long as the block runs.

    Args:
        address: HOST:PORT or ray://HOST:PORT of a cluster, or LOCAL for this machine.
        processors: how many of them tasks may take here; None for all. A cluster has its own.

    Raises:
        MissingPackageError: Ray is not installed.
        ClusterError: there is no such cluster.
    """
    packages.require("ray", extra="ray")
    import ray

    local = address == LOCAL
    try:
        if not local:
            _knock(address)
        ray.init(
            address=None if local else address,
            num_cpus=processors if local else None,
            include_dashboard=False if local else None,
            log_to_driver=False,
            logging_level="error",
        )
    except (OSError, RuntimeError, ValueError) as exc:
        raise ClusterError(f"no Ray at {address}: {first_line(exc)}") from exc
    try:
        yield
    finally:
        ray.shutdown()


def divided(
    function: Callable[[Item], Result], items: Iterable[Item], address: str, workers: int
) -> Iterator[Result]:
    """The results of a function in the order of `items`, computed in several processes.

    A process that is killed is replaced, and does its item again.

    Args:
        function: of a module, so that another process can import it.
        items: that can be pickled.
        address: see `connected`.
        workers: items at a time; each takes one processor.

    Raises:
        MobileSamExportError: of `function`.
        ClusterError: there is no such cluster, or Ray gives up.
    """
    with connected(address, workers):
        import ray

        task = ray.remote(max_retries=RETRIES, num_cpus=1)(function)
        running: dict[Any, int] = {}
        results: dict[int, Result] = {}
        given = 0
        for number, item in enumerate(items):
            if len(running) == workers:
                _collect_one(running, results)
            running[task.remote(item)] = number
            while given in results:
                yield results.pop(given)
                given += 1
        while running or results:
            if given not in results:
                _collect_one(running, results)
                continue
            yield results.pop(given)
            given += 1


def _collect_one(running: dict[Any, int], results: dict[int, Any]) -> None:
    """Move what is done first from `running` to `results`."""
    import ray

    (done, *_), _ = ray.wait(list(running))
    try:
        results[running.pop(done)] = ray.get(done)
    except ray.exceptions.RayError as exc:
        cause = getattr(exc, "cause", None) or exc
        if isinstance(cause, MobileSamExportError):
            raise cause from exc
        raise ClusterError(f"Ray gave up: {first_line(cause)}") from exc


def _knock(address: str) -> None:
    """Fail at once where nobody answers, which takes Ray itself minutes.

    Raises:
        OSError: nobody does. ValueError: it is no [ray://]HOST:PORT.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("expected HOST:PORT, ray://HOST:PORT or local")
    socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def absolute(options: Options) -> Options:
    """With paths that mean the same in the folder of another process."""
    return replace(
        options,
        **{field.name: _absolute(getattr(options, field.name)) for field in fields(options)},
    )


def _absolute(value: Any) -> Any:  # noqa: ANN401 any field of options
    if isinstance(value, tuple):
        return tuple(map(_absolute, value))
    names_a_file = isinstance(value, str) and value != "" and Path(value).exists()
    if isinstance(value, Path) or names_a_file:
        return type(value)(Path(value).absolute())
    return value
