"""Reads a plan in its latents: no frame is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import EeReadout, IncompatibleError, Observation, PlanLatents, VideoPlan
from idm.reading import mismatch

if TYPE_CHECKING:
    from idm.latent_network import LatentInverseDynamicsNet

Floats = NDArray[np.float64]
SOURCE = "idm-latents"
MEASURED_STD_M, MEASURED_STD = 0.001, 0.01  # of frame 0, where proprioception knows the truth


class LatentReader:
    """Reads plans with one network; see `read`.

    Args:
        net: the network.
        threads: torch threads while reading, or None for torch's own choice.
        weights: digest of the network's weights, for the record.
    """

    def __init__(
        self, net: LatentInverseDynamicsNet, *, threads: int | None = None, weights: str | None = None
    ) -> None:
        self._net, self._threads, self.weights = net, threads, weights

    @property
    def cameras(self) -> tuple[str, ...]:
        """The one view that was planned through while it learnt."""
        return (str(self._net.config.camera),)

    @property
    def latent_space(self) -> str:
        """Name of the latents it reads."""
        return str(self._net.config.space)

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        """Return one reading per frame; frame 0 is the measured hand.

        Raises:
            IncompatibleError: the plan's latents are of another space or form, or it looks through another camera.
        """
        latents = self._fitting(plan, observation)
        import torch

        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        config, device = self._net.config, next(self._net.parameters()).device
        mean, std = np.array(config.position_mean_m), np.array(config.position_std_m)
        arm = observation.arm
        hand = np.append(
            (arm.position_m - mean) / std, (arm.gripper_opening - config.opening_mean) / config.opening_std
        )
        with torch.inference_mode():
            values = torch.from_numpy(np.array(latents.values)).to(device)[None]
            reading = self._net(values, torch.from_numpy(hand.astype(np.float32)).to(device)[None])
        position = reading.position[0].double().cpu().numpy() * std + mean
        opening = np.clip(reading.opening[0].double().cpu().numpy() * config.opening_std + config.opening_mean, 0, 1)
        spread_m = (reading.position_log_var[0].double() / 2).exp().cpu().numpy() * float(std.mean())
        spread = (reading.opening_log_var[0].double() / 2).exp().cpu().numpy() * config.opening_std
        return EeReadout(
            position_m=_begun(position, arm.position_m),
            opening=_begun(opening, arm.gripper_opening),
            position_std_m=_begun(config.temperature_position * spread_m, MEASURED_STD_M),
            opening_std=_begun(config.temperature_opening * spread, MEASURED_STD),
            source=SOURCE,
        )

    def _fitting(self, plan: VideoPlan, observation: Observation) -> PlanLatents:
        problem = mismatch(self._net.config, plan, observation)
        if problem is not None:
            raise problem
        config, latents = self._net.config, plan.latents
        if latents is None or latents.space != config.space:
            found = "none" if latents is None else repr(latents.space)
            raise IncompatibleError(
                f"plan: expected latents of {config.space!r}, which these weights learnt to read, found {found}.",
                "Use the planner, with its options, that they were trained for, or train on this one: "
                "cascade train idm --reads latents.",
            )
        wanted, found_shape = (*config.shape, config.frames), (*latents.values.shape, len(plan))
        if wanted != found_shape:
            raise IncompatibleError(
                f"plan: expected latents (L, C, h, w) and frames {wanted}, found {found_shape}.",
                "Give the planner the size and number of frames it had in training.",
            )
        return latents


def _begun(values: Floats, measured: Floats | float) -> Floats:
    """Return readings whose first is the measured one."""
    result = np.array(values, np.float64)
    result[0] = measured
    return result
