"""The planner `policy`: a plan whose motion is said by a policy, and whose frames are imagined, if it imagines any."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cascade.contracts import ActionChunk, CameraImage, Needs, Observation, PlanLatents, VideoPlan
from cascade.contracts.errors import ConfigError
from planner.frames import first_frame
from planner.phrases import normalised
from planner.policies.network import PolicyOutput
from planner.policies.options import PolicyConfig
from planner.policies.samples import FRAME_S, SIZE_PX
from planner.policies.weights import load_policy, policy_folder
from planner.text import PhraseTable, TextEncoder, minilm
from planner.weights import DEFAULT_WEIGHTS, load_table

if TYPE_CHECKING:
    from planner.networks.autoencoder import FrameAutoencoder

PASSING_M = 10.0  # a tolerance no target is outside of: time alone, not arrival, makes the arm go on
NOMINAL_SPEED_M_S = 0.95  # targets lie ahead of the hand; their nominal times allow for the way

Floats = NDArray[np.float64]


class PolicyPlanner:
    """Says the next targets of the hand (a Planner for the extractor `given`); does not depend on the seed."""

    def __init__(self, config: PolicyConfig) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self._network, self._settings, self._digest = load_policy(policy_folder(Path(config.weights)))
        if config.camera != self._settings.camera:
            raise ConfigError(
                f"planner 'policy': these weights know the camera {self._settings.camera!r}, not {config.camera!r}.",
                f"Set planner.options.camera to {self._settings.camera!r}.",
            )
        text = minilm()
        self._table: PhraseTable = load_table(DEFAULT_WEIGHTS / "text_table.safetensors")
        self._text: TextEncoder = text or self._table
        self._embeddings: dict[str, NDArray[np.float32]] = {}
        self._autoencoder = _autoencoder() if self._settings.kind == "joint" else None

    @property
    def needs(self) -> Needs:
        """The one camera its weights know."""
        return Needs(cameras=(self._settings.camera,))

    @torch.inference_mode()
    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Return `samples` times the same plan: the next targets, and what is imagined of them.

        A policy that imagines nothing gives the current image twice.

        Raises:
            ConfigError: the instruction is empty or unknown, or a goal image was given.
        """
        if goal is not None:
            raise ConfigError("planner 'policy': it cannot aim at a goal image.", "Leave the goal out.")
        began = time.perf_counter()
        pixels, transform = first_frame(observation, self._settings.camera, SIZE_PX)
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1
        out: PolicyOutput = self._network(image, self._words(instruction), self._hand(observation))
        latents = self._imagined(image, out)
        ms = {"policy": round((time.perf_counter() - began) * 1e3, 3)}
        provenance: dict[str, Any] = {
            "planner": f"policy {self._settings.kind}",
            "weights": self._digest[:16],
            "imagines": latents is not None,
            "text_source": self._text.source,
            "ms": ms,
        }
        still = np.stack([pixels, pixels]) if latents is None else None
        return [
            VideoPlan(
                instruction=instruction,
                camera=self._settings.camera,
                transform=transform,
                frames=still,
                decode=None if latents is None else lambda: self._decoded(latents, image, pixels, ms),
                length=None if latents is None else len(latents),
                frame_dt_s=FRAME_S if latents is not None else None,
                latents=None if latents is None else _record(latents),
                actions=self._chunk(out, observation),
                seed=seed,
                provenance=provenance,
            )
            for _ in range(samples)
        ]

    def _chunk(self, out: PolicyOutput, observation: Observation) -> ActionChunk:
        settings, arm = self._settings, observation.arm
        actions = out.actions[0].double().numpy()
        position = arm.position_m + actions[:, :3] * settings.target_std
        way = np.linalg.norm(np.diff(position, axis=0, prepend=arm.position_m[None]), axis=1)
        count = len(actions)
        values = np.concatenate([position, np.tile(quaternion(arm.T_base_ee[:3, :3]), (count, 1))], axis=1)
        return ActionChunk(
            values=values,
            gripper=np.clip(actions[:, 3], 0.0, 1.0),
            times_s=np.cumsum(np.maximum(settings.step_s, way / NOMINAL_SPEED_M_S)),
            hold_s=np.full(count, settings.step_s),
            tolerance_m=np.full(count, PASSING_M),
            provenance={"extractor": f"policy {settings.kind}", "weights": self._digest[:16]},
        )

    def _imagined(self, image: torch.Tensor, out: PolicyOutput) -> torch.Tensor | None:
        """Return (frames + 1, channels, h, w) raw latents, the current image first; None without imagination."""
        if self._autoencoder is None or out.video is None:
            return None
        first = self._autoencoder.encode(image)
        mean, std = (torch.tensor(v)[:, None, None] for v in (self._settings.latent_mean, self._settings.latent_std))
        return torch.cat([first, first + out.video[0] * std + mean])

    @torch.inference_mode()
    def _decoded(
        self, latents: torch.Tensor, image: torch.Tensor, pixels: NDArray[np.uint8], ms: dict[str, float]
    ) -> NDArray[np.uint8]:
        assert self._autoencoder is not None  # noqa: S101  (there are no latents without it)
        began = time.perf_counter()
        drawn = self._autoencoder.decode(latents[1:], image, self._autoencoder.reference_features(image))
        future = ((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        ms["decode"] = round((time.perf_counter() - began) * 1e3, 3)
        return np.concatenate([pixels[None], future])

    def _words(self, instruction: str) -> torch.Tensor:
        key = normalised(instruction)
        if not key:
            raise ConfigError("instruction: expected a sentence, found none.", "Say what the robot should do.")
        if key not in self._embeddings:
            self._embeddings[key] = self._text.encode([instruction])[0]
        return torch.from_numpy(self._embeddings[key])[None]

    def _hand(self, observation: Observation) -> torch.Tensor:
        arm = observation.arm
        hand = np.append(arm.position_m, arm.gripper_opening)
        scaled = (hand - np.array(self._settings.hand_mean)) / np.array(self._settings.hand_std)
        return torch.from_numpy(scaled.astype(np.float32))[None]


def quaternion(R: Floats) -> Floats:
    """(4,) unit quaternion wxyz, w >= 0, of a (3, 3) rotation."""
    from scipy.spatial.transform import Rotation

    q: Floats = np.asarray(Rotation.from_matrix(R).as_quat(canonical=True, scalar_first=True), dtype=np.float64)
    return q


def _record(latents: torch.Tensor) -> PlanLatents:
    from planner.networks.autoencoder import LATENT_SPACE

    return PlanLatents(values=latents.numpy(), space=LATENT_SPACE)


def _autoencoder() -> FrameAutoencoder:
    from planner.networks.autoencoder import FrameAutoencoder
    from planner.storage import load_network
    from planner.weights import check_sums

    check_sums(DEFAULT_WEIGHTS)
    network: FrameAutoencoder = load_network(FrameAutoencoder, DEFAULT_WEIGHTS / "ae", torch.float32).eval()
    return network
