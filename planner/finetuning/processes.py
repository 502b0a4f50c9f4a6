"""One process or many: what accelerate and torchrun set up, with answers that all processes agree on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cascade.contracts.errors import ConfigError
from planner.compute import choose_device, fast_bfloat16
from planner.finetuning.options import FinetuneConfig


class Processes:
    """The processes that train together; started by nothing, torchrun or accelerate launch.

    Attributes:
        bfloat16: whether arithmetic is mixed with bfloat16.
    """

    def __init__(self, options: FinetuneConfig) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        device = choose_device(options.device)
        self.bfloat16 = options.mixed_precision == "bf16" or (
            options.mixed_precision == "auto" and fast_bfloat16(device)
        )
        AcceleratorState._reset_state(reset_partial_state=True)  # a second run in this process begins afresh
        self._accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="bf16" if self.bfloat16 else "no",
            step_scheduler_with_optimizer=False,
        )
        per_round = options.micro_batch * self.count
        if options.batch % per_round:
            near = -(-options.batch // per_round) * per_round
            count = self.count
            self.close()
            raise ConfigError(
                f"batch: expected a multiple of {per_round} (micro_batch {options.micro_batch} in {count} processes), "
                f"found {options.batch}.",
                f"Use {near}.",
            )

    @property
    def count(self) -> int:
        """Number of processes."""
        return int(self._accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Number of this process."""
        return int(self._accelerator.process_index)

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return bool(self._accelerator.is_main_process)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self._accelerator.device
        return device

    def prepare(self, network: Any) -> Any:
        """Return the network, with gradients averaged over the processes and arithmetic mixed."""
        return self._accelerator.prepare_model(network)

    def backward(self, loss: Tensor) -> None:
        """Add gradients."""
        self._accelerator.backward(loss)

    def alone(self, network: Any, quiet: bool) -> Any:
        """Return a context in which gradients are not exchanged, when `quiet`."""
        from contextlib import nullcontext

        return self._accelerator.no_sync(network) if quiet else nullcontext()

    def clip(self, parameters: list[Any], length: float) -> None:
        """Shorten the gradient to `length`."""
        self._accelerator.clip_grad_norm_(parameters, length)

    def mean(self, *values: float) -> list[float]:
        """Return means over the processes."""
        told = torch.tensor(values, dtype=torch.float64, device=self.device)
        found: list[float] = self._accelerator.reduce(told, reduction="mean").tolist()
        return found

    def wait(self) -> None:
        """Wait for all."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the group of processes."""
        from accelerate.state import AcceleratorState

        self._accelerator.free_memory()
        self._accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
