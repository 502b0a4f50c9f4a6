"""An imagined video and what is read in it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import checks
from cascade.contracts.action import ActionChunk
from cascade.contracts.errors import DataError
from cascade.contracts.frozen import assign as _set

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """How a camera image became plan pixels: crop, then scale; so that the intrinsics can follow.

    Attributes:
        crop_px: (u0, v0, width, height) of the part of the camera image that was used.
        size_px: (width, height) of the plan image.
    """

    crop_px: tuple[float, float, float, float]
    size_px: tuple[int, int]

    @classmethod
    def centre_square(cls, width: int, height: int, size: int) -> Self:
        """Largest centred square of a (width, height) image, scaled to size x size."""
        side = min(width, height)
        return cls(crop_px=((width - side) / 2, (height - side) / 2, side, side), size_px=(size, size))

    @property
    def scale(self) -> tuple[float, float]:
        """Plan pixels per camera pixel, along u and v."""
        return self.size_px[0] / self.crop_px[2], self.size_px[1] / self.crop_px[3]

    def intrinsics(self, K: Floats) -> Floats:
        """Return K of the plan image from K of the camera image."""
        su, sv = self.scale
        A = np.array([[su, 0, -su * self.crop_px[0]], [0, sv, -sv * self.crop_px[1]], [0, 0, 1.0]])
        plan_K: Floats = A @ K
        return plan_K

    def apply(self, rgb: Image) -> Image:
        """Return a camera image (H, W, 3) as the plan sees it: cropped and scaled."""
        import cv2

        u, v, width, height = (round(value) for value in self.crop_px)
        crop = rgb[v : v + height, u : u + width]
        if crop.shape[1::-1] == self.size_px:
            return np.ascontiguousarray(crop)
        how = cv2.INTER_AREA if self.size_px[0] < crop.shape[1] else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(crop, self.size_px, interpolation=how), dtype=np.uint8)

    def apply_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a camera mask (H, W) as the plan sees it: pixels that are covered by half at least."""
        grey = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
        return np.asarray(self.apply(grey)[..., 0] > 127, dtype=np.bool_)

    def to_camera(self, uv: Floats) -> Floats:
        """Map (..., 2) plan pixels to camera pixels."""
        camera_uv: Floats = uv / np.array(self.scale) + np.array(self.crop_px[:2])
        return camera_uv


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanLatents:
    """A plan as its generator holds it: `values` (L, C, h, w) float32 in the named latent `space`.

    L maps cover the plan from its beginning to its end: one per frame, fewer (video models keep one in four or eight),
    or a single one that holds it all. The name tells weights, what was read of them and at which noise level, so that
    what is read from one space is never read from another.
    """

    values: NDArray[np.float32]
    space: str

    def __post_init__(self) -> None:
        _set(self, values=checks.array("latents", self.values, (None, None, None, None), np.float32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EeReadout:
    """What an inverse-dynamics model reads in the T frames of a plan.

    Attributes:
        position_m: (T, 3) end-effector position in the base frame.
        opening: (T,) observed gripper opening 0..1 (observed, not commanded).
        position_std_m: (T,) calibrated standard deviation per axis.
        opening_std: (T,).
        progress: (T,) share of the task done, 0..1, or None.
        source: who read it.
    """

    position_m: Floats
    opening: Floats
    position_std_m: Floats
    opening_std: Floats
    source: str
    progress: Floats | None = None

    def __post_init__(self) -> None:
        p = checks.array("position_m", self.position_m, (None, 3), np.float64)
        n = (len(p),)
        _set(self, position_m=p, opening=checks.array("opening", self.opening, n, np.float64))
        _set(self, position_std_m=checks.array("position_std_m", self.position_std_m, n, np.float64))
        _set(self, opening_std=checks.array("opening_std", self.opening_std, n, np.float64))
        checks.unit_interval("opening", self.opening)
        if self.progress is not None:
            _set(self, progress=checks.array("progress", self.progress, n, np.float64))


class VideoPlan:
    """An imagined video: T frames, frame 0 being the observation as the planner saw it.

    Frames may be given or decoded when first asked for, since control may never look at a pixel.

    Attributes:
        instruction: the sentence the plan was made for.
        camera: name of the camera the plan looks through.
        transform: from that camera's pixels to plan pixels.
        frame_dt_s: time between frames, or None when the planner's time is only ordinal.
        latents, flow, readout: optional; flow is (T-1, h, w, 2) float32 [px] from frame t to t+1.
        actions: the motion, when the generator says it itself (a joint model or policy), or None.
        score: names -> values given by scorers.
        provenance: planner, weights digest, steps, milliseconds per stage; JSON values only.
        plan_id: unique name, so that an extractor can continue a plan it has begun.
    """

    def __init__(
        self,
        *,
        instruction: str,
        camera: str,
        transform: ImageTransform,
        frames: Image | None = None,
        decode: Callable[[], Image] | None = None,
        length: int | None = None,
        frame_dt_s: float | None = None,
        latents: PlanLatents | None = None,
        flow: NDArray[np.float32] | None = None,
        readout: EeReadout | None = None,
        actions: ActionChunk | None = None,
        seed: int = 0,
        provenance: Mapping[str, Any] | None = None,
        plan_id: str | None = None,
    ) -> None:
        if (frames is None) == (decode is None):
            raise DataError("VideoPlan: expected either frames or a decode function.")
        if decode is not None and length is None:
            raise DataError("VideoPlan: a plan that is decoded later needs its length.")
        self.instruction = instruction
        self.camera = camera
        self.transform = transform
        self.frame_dt_s = frame_dt_s
        self.latents = latents
        self.flow = flow
        self.readout = readout
        self.actions = actions
        self.seed = seed
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.plan_id = plan_id or uuid.uuid4().hex[:12]
        self._decode = decode
        self._frames = None if frames is None else self._checked(frames)
        self._length = len(self._frames) if self._frames is not None else int(length or 0)

    def _checked(self, frames: Image) -> Image:
        width, height = self.transform.size_px
        result = checks.array("plan frames", frames, (None, height, width, 3), np.uint8)
        if len(result) < 2:
            raise DataError(f"VideoPlan: expected at least 2 frames, found {len(result)}.")
        return result

    def __len__(self) -> int:
        """Number of frames T, frame 0 included."""
        return self._length

    @property
    def decoded(self) -> bool:
        """Whether the frames exist as pixels already."""
        return self._frames is not None

    @property
    def frames(self) -> Image:
        """(T, H, W, 3) uint8, decoded on first use."""
        if self._frames is None:
            assert self._decode is not None  # noqa: S101  (the constructor guarantees it)
            self._frames = self._checked(self._decode())
            self._decode = None
        return self._frames

    def with_readout(self, readout: EeReadout) -> VideoPlan:
        """Return the same plan, under the same name, as somebody else reads it; nothing is decoded for that."""
        return VideoPlan(
            instruction=self.instruction,
            camera=self.camera,
            transform=self.transform,
            frame_dt_s=self.frame_dt_s,
            latents=self.latents,
            flow=self.flow,
            readout=readout,
            actions=self.actions,
            seed=self.seed,
            provenance=self.provenance,
            plan_id=self.plan_id,
            frames=self._frames,
            decode=None if self.decoded else lambda: self.frames,
            length=len(self),
        )

    def pixels_only(self) -> VideoPlan:
        """Return a plan, with a name of its own, that holds nothing but what can be seen."""
        return VideoPlan(
            instruction=self.instruction,
            camera=self.camera,
            transform=self.transform,
            frames=self.frames,
            frame_dt_s=self.frame_dt_s,
            seed=self.seed,
        )
