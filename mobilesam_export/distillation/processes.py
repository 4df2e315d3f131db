"""One process or several that `torchrun` or Ray has started: PyTorch's data parallelism (DDP).

Each process computes its share of every batch; gradients are averaged, so that the weights are
those of one process with the whole batch. One of them, the main process, writes files.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mobilesam_export.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: number of this process.
        count: of them.
        device: of this process.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def parallel(self, encoder: nn.Module) -> nn.Module:
        """The encoder, with gradients that are averaged over all processes."""
        if self.count == 1:
            return encoder
        devices = None if self.device.type == "cpu" else [self.device]
        return DistributedDataParallel(encoder, device_ids=devices)

    def mean(self, *values: float) -> list[float]:
        """Means over all processes."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total / self.count]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The block runs in the main process, and then in the others with what it has left."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()


@contextlib.contextmanager
def join_processes(device: str | None) -> Iterator[Processes]:
    """Join the processes that `torchrun` has started, or be the only one.

    Those of Ray are connected already, and Ray parts them.

    Args:
        device: "cpu" or "cuda"; None for the GPU where there is one.

    Raises:
        UsageError: there is no such device.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
    here = _device(device, local_rank)
    if dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size(), here)
        return
    if count == 1:
        yield Processes(0, 1, here)
        return
    dist.init_process_group("nccl" if here.type == "cuda" else "gloo")
    processes = Processes(rank, count, here)
    try:
        yield processes
        processes.wait()
    finally:
        _part()


def _part() -> None:
    """Leave the group, but never destroy it.

    Gloo's threads let go of a tensor after they have said that it is there, and need the
    interpreter for that. The destructor of the group waits for them and holds it, so that both can
    wait for each other for ever. It runs when the last part of the model that knows the group is
    deleted, which may be at any time: one reference more than there are keeps the group alive.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
    dist.destroy_process_group()


def _device(name: str | None, local_rank: int) -> torch.device:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"--device is {name}; expected cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device is cuda, but PyTorch finds no GPU here; leave it out for the CPU"
        )
    return torch.device(name, local_rank) if name == "cuda" else torch.device(name)
