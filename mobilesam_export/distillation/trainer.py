"""One step of training after another: gradients, the optimizer, and the averaged weights."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mobilesam_export.distillation import schedule
from mobilesam_export.distillation.arithmetic import autocast, normalized
from mobilesam_export.distillation.losses import embedding_loss
from mobilesam_export.distillation.processes import Processes
from mobilesam_export.distillation.student import parameter_groups, prepare
from mobilesam_export.errors import DistillationError


@dataclass(frozen=True)
class Plan:
    """What the trainer needs of the options.

    Attributes:
        steps: of the whole run.
        learning_rate: its maximum.
        loss: see `embedding_loss`.
    """

    steps: int
    learning_rate: float
    loss: str


class Trainer:
    """An encoder in training.

    Attributes:
        encoder: the student's.
        average: exponential moving average of its weights, which is what is evaluated and kept:
            it is better than the weights of any one step (Tarvainen & Valpola, 2017,
            arXiv:1703.01780).
        step: how many are done.
    """

    def __init__(self, encoder: nn.Module, plan: Plan, processes: Processes) -> None:
        self.encoder = prepare(encoder).to(processes.device)
        self.average = copy.deepcopy(self.encoder).requires_grad_(False)
        self.step = 0
        self._plan = plan
        self._processes = processes
        self._parallel = processes.parallel(self.encoder)
        groups = parameter_groups(self.encoder, schedule.WEIGHT_DECAY)
        self._optimizer = torch.optim.AdamW(groups, betas=schedule.BETAS)

    def train_step(self, pixels: Tensor, expected: Tensor) -> float:
        """Learn from one batch.

        Args:
            pixels: (B, S, S, 3) uint8 RGB, this process' part of the batch.
            expected: (B, 256, S/16, S/16) float16, the teacher's embeddings of them.

        Returns:
            The loss, of all processes.

        Raises:
            DistillationError: the loss or its gradient is NaN or infinite; no weight has changed.
        """
        (loss,) = self._processes.mean(self.compute_gradients(pixels, expected))
        norm = float(nn.utils.clip_grad_norm_(self.encoder.parameters(), schedule.CLIP_NORM))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DistillationError(
                f"the loss is {loss:g} and its gradient's norm {norm:g} at step {self.step + 1}"
            )
        rate = schedule.learning_rate(self.step, self._plan.steps, self._plan.learning_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._update_average()
        self.step += 1
        return loss

    def compute_gradients(self, pixels: Tensor, expected: Tensor) -> float:
        """Leave the gradients of a batch in the parameters; the loss of this process' part."""
        self._optimizer.zero_grad(set_to_none=True)
        with autocast(pixels.device):
            found = self._parallel(normalized(pixels))
        loss = embedding_loss(found, expected, self._plan.loss)
        torch.autograd.backward(loss)
        return float(loss.detach())

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
