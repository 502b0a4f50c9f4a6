"""Reads a plan: where the hand is in each frame, how open the gripper is, how sure that is, how far the task is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import EeReadout, ImageTransform, IncompatibleError, Observation, VideoPlan

if TYPE_CHECKING:
    from torch import Tensor

    from idm.network import Encoding, InverseDynamicsNet

Floats = NDArray[np.float64]
Fuse = Literal["variance", "pixels", "latents"]
SOURCE = "idm-pixels"


@dataclass(frozen=True, slots=True, eq=False)
class Motions:
    """What the pair head reads between one current image and the T frames of a plan.

    Attributes:
        seen_m: (3,) the hand as the pose head reads it in the current image.
        to_goal_m: (T, 3) from the current image to each frame.
        seconds: (T,) to go.
    """

    seen_m: Floats
    to_goal_m: Floats
    seconds: Floats


class PlanFrameReader:
    """Reads plans with one network; see `read`.

    Args:
        net: the network.
        device: torch device the network is on.
        bf16: whether convolutions run in bfloat16; None for where that is fast.
        threads: torch threads while reading, or None for torch's own choice.
        bias_frames: plan frames over which the error seen in frame 0, where proprioception knows the truth, is taken
            off and fades; 0 to trust the network alone.
        weights: digest of the network's weights, for the record.
    """

    def __init__(
        self,
        net: InverseDynamicsNet,
        *,
        device: str = "cpu",
        bf16: bool | None = None,
        threads: int | None = None,
        bias_frames: float = 0.0,
        weights: str | None = None,
    ) -> None:
        from idm.precision import has_bf16

        self._net = net
        self._bf16 = has_bf16(device) if bf16 is None else bf16
        self._threads = threads
        self._bias_frames = bias_frames
        self.weights = weights

    @property
    def cameras(self) -> tuple[str, ...]:
        """The views that the network knows."""
        return self._net.cameras

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        """Return one reading per frame.

        Raises:
            IncompatibleError: the plan looks through another camera, or this one has moved.
        """
        problem = mismatch(self._net.config, plan, observation)
        if problem is not None:
            raise problem
        import torch

        with torch.inference_mode():
            encoding = self.encode(plan.frames, plan.camera)
            pose = self._net.pose(encoding)
            before = type(encoding)(*(part[:-1] for part in encoding))
            after = type(encoding)(*(part[1:] for part in encoding))
            motion = self._net.motion(before, after, pose.position_m[:-1], pose.opening[:-1])
        position = pose.position_m.double().cpu().numpy()
        opening = np.clip(pose.opening.double().cpu().numpy(), 0.0, 1.0)
        spread = pose.log_std_m.double().exp().square().mean(1).sqrt().cpu().numpy()
        config = self._net.config
        return EeReadout(
            position_m=self._without_bias(position, observation.arm.position_m),
            opening=opening,
            position_std_m=config.temperature_position * spread,
            opening_std=config.temperature_opening * pose.log_std_opening.double().exp().cpu().numpy(),
            progress=progress_of(motion.seconds.double().cpu().numpy()),
            source=SOURCE,
        )

    def goals(self, plan: VideoPlan, observation: Observation) -> PlanFrameReader:
        """Return itself where it can read a plan; see `idm.closed_loop`.

        Raises:
            IncompatibleError: as `read`.
        """
        problem = mismatch(self._net.config, plan, observation)
        if problem is not None:
            raise problem
        return self

    def encode(self, frames: NDArray[np.uint8], camera: str) -> Encoding:
        """Encode (T, H, W, 3) uint8 frames seen through a camera."""
        import torch

        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        device = next(self._net.parameters()).device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            pixels = torch.from_numpy(np.array(frames)).to(device)
            view = torch.full((len(frames),), self._net.view(camera), dtype=torch.int64, device=device)
            return self._net.encode(self._sized(pixels.permute(0, 3, 1, 2).float() / 255), view)

    def motions(
        self, image: NDArray[np.uint8], camera: str, goals: Encoding, position_m: Floats, opening: float
    ) -> Motions:
        """Return the motion from an image (H, W, 3) of now, with proprioception, to each of T encoded goal frames."""
        import torch

        with torch.inference_mode():
            now = self.encode(image[None], camera)
            seen = self._net.pose(now).position_m[0]
            current = type(now)(*(part.expand(len(goals.view), *part.shape[1:]) for part in now))
            place = torch.tensor(np.asarray(position_m), dtype=torch.float32, device=seen.device)
            fingers = torch.full((len(goals.view),), float(opening), device=seen.device)
            motion = self._net.motion(current, goals, place.expand(len(goals.view), 3), fingers)
        return Motions(
            seen_m=seen.double().cpu().numpy(),
            to_goal_m=motion.to_goal_m.double().cpu().numpy(),
            seconds=motion.seconds.double().cpu().numpy(),
        )

    def _without_bias(self, position_m: Floats, measured_m: Floats) -> Floats:
        if self._bias_frames <= 0:
            return position_m
        weight = np.exp(-np.arange(len(position_m)) / self._bias_frames)
        result: Floats = position_m + weight[:, None] * (measured_m - position_m[0])
        return result

    def _sized(self, images: Tensor) -> Tensor:
        import torch.nn.functional as F

        size = self._net.config.image_size_px
        if images.shape[-2:] == (size, size):
            return images
        return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def known_views(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return camera, K and T_base_cam of every view in a network's configuration."""
    return list(config.get("views") or [config])


def mismatch(config: Mapping[str, Any], plan: VideoPlan, observation: Observation) -> IncompatibleError | None:
    """Return why weights of this configuration cannot read a plan, or None where they can."""
    views = {str(view["camera"]): view for view in known_views(config)}
    if plan.camera not in views:
        return IncompatibleError(
            f"plan: expected camera {', '.join(views)}, which these weights know, found {plan.camera!r}.",
            "Plan through such a camera, or use weights trained on yours.",
        )
    view, image = views[plan.camera], observation.image(plan.camera)
    size = int(config["image_size_px"])
    width, height = plan.transform.size_px
    whole = ImageTransform(crop_px=(0, 0, width, height), size_px=(size, size))
    K = whole.intrinsics(plan.transform.intrinsics(image.K))
    off_px = float(np.abs(K - np.array(view["K"])).max())
    if off_px > 0.02 * size:
        return IncompatibleError(
            f"plan: expected the intrinsics these weights know, found some {off_px:.1f} px away.",
            "Show the plan at the field of view the weights were trained with.",
        )
    if image.T_base_cam is not None:
        off = float(np.abs(image.T_base_cam - np.array(view["T_base_cam"])).max())
        if off > 0.02:
            return IncompatibleError(
                f"camera {plan.camera!r}: its pose differs by {off:.3f} from the one these weights know.",
                "Move the camera back, or train weights for where it stands.",
            )
    return None


def progress_of(seconds: Floats) -> Floats:
    """Return (T,) share of the plan done, 0..1, from the (T-1,) times between its frames."""
    done = np.concatenate([[0.0], np.cumsum(np.maximum(seconds, 1e-3))])
    result: Floats = done / done[-1]
    return result


def fuse(pixels: EeReadout | None, latents: EeReadout | None, how: Fuse) -> EeReadout:
    """Combine two readings of one plan: weighted by inverse variance, or one of them.

    Raises:
        IncompatibleError: the reading asked for is not there.
    """
    if how == "latents":
        if latents is None:
            raise IncompatibleError(
                "plan: expected a readout from the planner (fuse: latents), found none.",
                "Use a planner that reads its own latents, or fuse: variance.",
            )
        return latents
    if pixels is None:
        raise IncompatibleError("plan: expected a reading of its pixels, found none.")
    if latents is None or how == "pixels":
        return pixels
    a, b = 1 / pixels.position_std_m**2, 1 / latents.position_std_m**2
    c, d = 1 / pixels.opening_std**2, 1 / latents.opening_std**2
    return EeReadout(
        position_m=(a[:, None] * pixels.position_m + b[:, None] * latents.position_m) / (a + b)[:, None],
        opening=(c * pixels.opening + d * latents.opening) / (c + d),
        position_std_m=1 / np.sqrt(a + b),
        opening_std=1 / np.sqrt(c + d),
        progress=pixels.progress if pixels.progress is not None else latents.progress,
        source=f"{pixels.source}+{latents.source}",
    )
