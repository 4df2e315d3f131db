"""A run on the disk: what it takes to go on, and the log for people and programs.

Both are replaced whole, the log first: a process killed at any moment leaves a state from which the
next one computes the same losses.
"""

import contextlib
import fcntl
import io
import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mobilesam_export.errors import MeasurementError, UsageError
from mobilesam_export.files import make_folder, write_json, write_whole

STATE, LOG = "state.pt", "log.json"


@dataclass
class Log:
    """What happened so far.

    Attributes:
        losses: of every step.
        epochs: figures of the held-out images, the first of them before training.
        seconds: of training, over all calls.
        problems: of images that are left out.
    """

    losses: list[float] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "steps": len(self.losses),
            "seconds": round(self.seconds, 1),
            "problems": self.problems,
            "epochs": self.epochs,
            "losses": self.losses,
        }


class RunFolder:
    """The folder of one run.

    Args:
        folder: it is made by `locked` if there is none.
        identity: everything that the run's losses depend on, by the name of the option.
    """

    def __init__(self, folder: Path, identity: Mapping[str, object]) -> None:
        self._state, self._log = folder / STATE, folder / LOG
        self._identity = dict(identity)

    @property
    def exists(self) -> bool:
        """Whether there is something to go on with."""
        return self._state.exists()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time is in this block; what a killed one has left is removed.

        Raises:
            UsageError: another process trains in this folder.
            OutputError: the folder cannot be made.
        """
        folder = self._state.parent
        make_folder(folder)
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise UsageError(f"another process trains in {folder}; wait for it") from exc
        else:
            for part in folder.glob(".*.part*"):
                part.unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)

    def load(self, device: torch.device) -> tuple[dict[str, Any], Log] | None:
        """The trainer's state and the log of an earlier call; None if there is none.

        Raises:
            UsageError: the folder belongs to a run with other options.
            MeasurementError: the state is damaged.
        """
        if not self.exists:
            return None
        try:
            saved = torch.load(self._state, map_location=device, weights_only=True)
            identity, trainer, log = saved["identity"], saved["trainer"], Log(**saved["log"])
        except (OSError, RuntimeError, EOFError, LookupError, TypeError, pickle.PickleError) as exc:
            raise MeasurementError(
                f"{self._state} is damaged; delete its folder to begin again"
            ) from exc
        names = [k for k, value in self._identity.items() if identity.get(k) != value]
        if names:
            raise UsageError(
                f"{self._state.parent} is a run with another {names[0]}; repeat its options to go "
                "on, or choose another --out"
            )
        return trainer, log

    def save(self, trainer: dict[str, Any], log: Log) -> None:
        """Replace what is there.

        Raises:
            OutputError: a full disk, for example; the old state stays.
        """
        write_json(self._log, {**self._identity, **log.as_dict()})
        buffer = io.BytesIO()  # torch.save on a full disk raises no OSError
        content = {"identity": self._identity, "trainer": trainer, "log": vars(log)}
        torch.save(content, buffer)
        with write_whole(self._state) as part:
            part.write_bytes(buffer.getbuffer())
