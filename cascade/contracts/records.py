"""Frozen records that travel between the stages; validated when made, arrays read-only."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import checks
from cascade.contracts.errors import DataError

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


def _set(record: object, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(record, name, value)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CameraImage:
    """One upright image of one camera.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32 metric z-depth, NaN where there is no return, or None.
        segmentation: (H, W) int32 of segment ids, -1 for nothing, or None.
        segment_names: name of a body or part -> its ids in `segmentation`.
        K: (3, 3) intrinsics [px]; pixel centres at (i + 0.5).
        T_base_cam: (4, 4) maps camera points (OpenCV axes: x right, y down, z forward) to the arm base.
        stamp_s: monotonic time of exposure [s].
    """

    rgb: Image
    K: Floats
    stamp_s: float
    depth_m: NDArray[np.float32] | None = None
    segmentation: NDArray[np.int32] | None = None
    segment_names: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    T_base_cam: Floats | None = None

    def __post_init__(self) -> None:
        rgb = checks.array("rgb", self.rgb, (None, None, 3), np.uint8)
        size = rgb.shape[:2]
        _set(self, rgb=rgb, K=checks.array("K", self.K, (3, 3), np.float64))
        if self.depth_m is not None:
            _set(self, depth_m=checks.array("depth_m", self.depth_m, size, np.float32, finite=False))
        if self.segmentation is not None:
            _set(self, segmentation=checks.array("segmentation", self.segmentation, size, np.int32))
        if self.T_base_cam is not None:
            _set(self, T_base_cam=checks.pose("T_base_cam", self.T_base_cam))

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Return the (H, W) mask of a named segment; raises DataError when there is none of that name."""
        if self.segmentation is None or name not in self.segment_names:
            raise DataError(f"segment {name!r}: not in this image.", f"Known: {', '.join(sorted(self.segment_names))}.")
        return np.isin(self.segmentation, self.segment_names[name])


class ArmMode(StrEnum):
    """What an arm is doing; FAULT and ESTOP latch."""

    IDLE = "idle"
    MOVING = "moving"
    HOLD = "hold"
    FAULT = "fault"
    ESTOP = "estop"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmState:
    """Proprioception at one instant.

    Attributes:
        q: (J,) joint positions [rad].
        T_base_ee: (4, 4) end-effector pose in the arm base; the origin is the point between the finger tips.
        gripper_opening: measured, 0 closed .. 1 open.
        stamp_s: monotonic time [s].
    """

    q: Floats
    T_base_ee: Floats
    gripper_opening: float
    stamp_s: float
    mode: ArmMode = ArmMode.IDLE
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        q = checks.array("q", self.q, (None,), np.float64)
        _set(self, q=q, T_base_ee=checks.pose("T_base_ee", self.T_base_ee))
        checks.unit_interval("gripper_opening", np.array([self.gripper_opening], dtype=np.float64))

    @property
    def position_m(self) -> Floats:
        """(3,) end-effector position in the base frame [m]."""
        position: Floats = self.T_base_ee[:3, 3]
        return position


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """Named camera images and the arm's state, taken together."""

    images: Mapping[str, CameraImage]
    arm: ArmState

    def image(self, camera: str) -> CameraImage:
        """Return one camera's image; raises DataError naming the known cameras."""
        if camera not in self.images:
            raise DataError(f"camera {camera!r}: not in this observation.", f"Known: {', '.join(sorted(self.images))}.")
        return self.images[camera]


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

    def to_camera(self, uv: Floats) -> Floats:
        """Map (..., 2) plan pixels to camera pixels."""
        camera_uv: Floats = uv / np.array(self.scale) + np.array(self.crop_px[:2])
        return camera_uv


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanLatents:
    """A plan as its generator holds it: `values` (T, C, h, w) float32 in the named latent `space`."""

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


class SpaceKind(StrEnum):
    """What an action's numbers mean."""

    EE_POSE = "ee_pose"  # (H, 7): xyz [m], quaternion wxyz, absolute in the base frame
    JOINT_POSITION = "joint_position"  # (H, J) [rad], absolute


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpace:
    """Meaning of actions; travels in every checkpoint, dataset and chunk and is compared before anything moves.

    Gripper values are always an opening, 0 closed .. 1 open.
    """

    kind: SpaceKind = SpaceKind.EE_POSE
    frame: str = "base"
    rate_hz: float | None = None

    def mismatch(self, other: ActionSpace) -> str | None:
        """Return what differs from `other` in words, or None when actions may pass from one to the other."""
        for name in ("kind", "frame"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} is {mine} here and {theirs} there"
        if None not in (self.rate_hz, other.rate_hz) and self.rate_hz != other.rate_hz:
            return f"rate_hz is {self.rate_hz} here and {other.rate_hz} there"
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActionChunk:
    """Absolute targets to visit in order.

    Attributes:
        values: (H, 7) xyz [m] + quaternion wxyz in the base frame, or (H, J) [rad]; H may be 0 when done.
        gripper: (H,) commanded opening 0..1.
        times_s: (H,) nominal time of each target from the chunk's start, not decreasing.
        hold_s: (H,) least time to stay at a target once it is active (a dwell while the gripper closes).
        tolerance_m: (H,) distance at which a target counts as reached.
        confidence: (H,) 0..1 or None.
        final: whether the plan is exhausted when this chunk has been executed.
        provenance: extractor, plan id, reasons; JSON values only.
    """

    values: Floats
    gripper: Floats
    times_s: Floats
    hold_s: Floats | None = None
    tolerance_m: Floats | None = None
    confidence: Floats | None = None
    space: ActionSpace = field(default_factory=ActionSpace)
    final: bool = True
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        width = 7 if self.space.kind is SpaceKind.EE_POSE else None
        values = checks.array("action values", self.values, (None, width), np.float64)
        n = (len(values),)
        _set(self, values=values)
        if self.space.kind is SpaceKind.EE_POSE:
            checks.quaternions("action values[:, 3:]", values[:, 3:])
        hold = np.zeros(n) if self.hold_s is None else self.hold_s
        tolerance = np.full(n, 0.02) if self.tolerance_m is None else self.tolerance_m
        for name, value in (
            ("gripper", self.gripper),
            ("times_s", self.times_s),
            ("hold_s", hold),
            ("tolerance_m", tolerance),
        ):
            _set(self, **{name: checks.array(name, value, n, np.float64)})
        checks.unit_interval("gripper", self.gripper)
        if n[0] and (self.times_s[0] < 0 or np.any(np.diff(self.times_s) < 0)):
            raise DataError("times_s: expected times from 0 on that do not decrease.")
        if self.confidence is not None:
            _set(self, confidence=checks.array("confidence", self.confidence, n, np.float64))
            checks.unit_interval("confidence", self.confidence)

    def __len__(self) -> int:
        """Number of targets H."""
        return len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Limits:
    """What an arm may do; required configuration of every rig.

    Attributes:
        workspace_m: (2, 3) lower and upper corner of the box the end effector must stay in, base frame.
        max_speed_m_s, max_acceleration_m_s2, max_jerk_m_s3: of the end effector.
        max_step_m: largest distance between consecutive targets.
        max_rotation_rad: largest rotation between consecutive targets.
    """

    workspace_m: Floats
    max_speed_m_s: float
    max_acceleration_m_s2: float
    max_jerk_m_s3: float
    max_step_m: float
    max_rotation_rad: float

    def __post_init__(self) -> None:
        box = checks.array("workspace_m", self.workspace_m, (2, 3), np.float64)
        if not np.all(box[1] > box[0]):
            raise DataError("workspace_m: expected the upper corner above the lower one on every axis.")
        _set(self, workspace_m=box)
        for name in (
            "max_speed_m_s",
            "max_acceleration_m_s2",
            "max_jerk_m_s3",
            "max_step_m",
            "max_rotation_rad",
        ):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise DataError(f"{name}: expected a positive number, found {getattr(self, name)}.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmSpec:
    """What is known of an arm before it is connected."""

    name: str
    joint_names: tuple[str, ...]
    accepts: ActionSpace
    control_hz: float
    limits: Limits


class Verdict(StrEnum):
    """Outcome of a gate."""

    PASS = "pass"  # noqa: S105
    CLIP = "clip"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One check that did not hold (or, in a gate's `measured` list, what it measured)."""

    check: str
    value: float
    limit: float
    unit: str
    step: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GateReport:
    """Outcome of a gate: a rejection is a value, not an exception.

    Attributes:
        chunk: what may run (possibly clipped), None on REJECT or when the gate looked at a plan.
        violations: checks that failed; `measured`: every check with its value and limit, for the report.
    """

    verdict: Verdict
    chunk: ActionChunk | None = None
    violations: tuple[Violation, ...] = ()
    measured: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """One recorded episode as trainers see it; N frames at `fps`.

    Attributes:
        frames: camera -> (N, H, W, 3) uint8; may be a lazy mapping that decodes when asked.
        K, T_base_cam: camera -> (3, 3), (4, 4).
        ee_position_m: (N, 3) measured; gripper_opening: (N,) measured 0..1.
        action: (N, 8) as sent: xyz, quaternion wxyz, gripper opening.
        instruction: task text; task: suite name of the task; kind: 'expert' or 'play'.
        success: whether the episode reached the task's goal at any time (False for play).
    """

    frames: Mapping[str, Image]
    K: Mapping[str, Floats]
    T_base_cam: Mapping[str, Floats]
    ee_position_m: Floats
    gripper_opening: Floats
    action: Floats
    fps: float
    instruction: str
    task: str
    kind: str
    success: bool
    seed: int
