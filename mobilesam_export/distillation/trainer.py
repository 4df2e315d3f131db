"""One step of training after another: gradients, the optimizer, and the averaged weights."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mobilesam_export.distillation import schedule
from mobilesam_export.distillation.arithmetic import autocast, normalized
from mobilesam_export.distillation.losses import embedding_loss
from mobilesam_export.distillation.processes import Processes
from mobilesam_export.distillation.recovery import Recovery
from mobilesam_export.distillation.student import parameter_groups, prepare
from mobilesam_export.errors import DistillationError

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """What the trainer needs of the options.

    Attributes:
        steps: that compare embeddings only.
        learning_rate: its maximum.
        loss: see `embedding_loss`.
        mask_steps: that compare masks as well, afterwards.
    """

    steps: int
    learning_rate: float
    loss: str
    mask_steps: int = 0

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.steps + self.mask_steps

    def compares_masks(self, step: int) -> bool:
        """Whether this step belongs to the second phase."""
        return step >= self.steps

    def learning_rate_at(self, step: int) -> float:
        """Each phase has a warm-up and a cosine of its own, the second from a lower maximum."""
        if not self.compares_masks(step):
            return schedule.learning_rate(step, self.steps, self.learning_rate)
        maximum = schedule.MASK_SHARE * self.learning_rate
        return schedule.learning_rate(step - self.steps, self.mask_steps, maximum)


class Trainer:
    """An encoder in training.

    Attributes:
        encoder: the student's.
        average: exponential moving average of its weights, which is what is evaluated and kept:
            it is better than the weights of any one step (Tarvainen & Valpola, 2017,
            arXiv:1703.01780).
        step: how many are done.
        plan: of all.
    """

    def __init__(
        self,
        encoder: nn.Module,
        plan: Plan,
        processes: Processes,
        recovery: Recovery | None = None,
    ) -> None:
        self.encoder = prepare(encoder).to(processes.device)
        self._recovery = recovery
        if recovery:
            recovery.freeze(self.encoder)
        self.average = copy.deepcopy(self.encoder).requires_grad_(False)
        self.step = 0
        self.plan = plan
        self._processes = processes
        self._parallel = processes.parallel(self.encoder)
        groups = parameter_groups(self.encoder, schedule.WEIGHT_DECAY)
        self._optimizer = torch.optim.AdamW(groups, betas=schedule.BETAS)

    def train_step(self, pixels: Tensor, expected: Tensor, loss: Loss | None = None) -> float:
        """Learn from one batch.

        Args:
            pixels: (B, S, S, 3) uint8 RGB, this process' part of the batch.
            expected: (B, 256, S/16, S/16) float16, the teacher's embeddings of them.
            loss: student's and teacher's embeddings -> scalar; None for that of the plan.

        Returns:
            The loss, of all processes.

        Raises:
            DistillationError: the loss or its gradient is NaN or infinite; no weight has changed.
        """
        (value,) = self._processes.mean(self.compute_gradients(pixels, expected, loss))
        norm = float(nn.utils.clip_grad_norm_(self.encoder.parameters(), schedule.CLIP_NORM))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise DistillationError(
                f"the loss is {value:g} and its gradient's norm {norm:g} at step {self.step + 1}"
            )
        rate = self.plan.learning_rate_at(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._update_average()
        self.step += 1
        return value

    def compute_gradients(
        self, pixels: Tensor, expected: Tensor, loss: Loss | None = None
    ) -> float:
        """Leave the gradients of a batch in the parameters; the loss of this process' part."""
        self._optimizer.zero_grad(set_to_none=True)
        with self._simulated(self.encoder):
            with autocast(pixels.device, exact=self._recovery is not None):
                found = self._parallel(normalized(pixels))
            kind = self.plan.loss
            value = loss(found, expected) if loss else embedding_loss(found, expected, kind)
            torch.autograd.backward(value)
        return float(value.detach())

    @contextlib.contextmanager
    def result(self) -> Iterator[nn.Module]:
        """The averaged encoder, as it is evaluated and written."""
        with self._simulated(self.average):
            yield self.average

    def _simulated(self, encoder: nn.Module) -> contextlib.AbstractContextManager[None]:
        return self._recovery.simulated(encoder) if self._recovery else contextlib.nullcontext()

    @torch.no_grad()
    def _update_average(self) -> None:
        rate = 1 - schedule.ema_decay(self.step)
        pairs = zip(self.average.parameters(), self.encoder.parameters(), strict=True)
        for average, parameter in pairs:
            average.lerp_(parameter, rate)

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {
            "encoder": self.encoder.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.encoder.load_state_dict(state["encoder"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
