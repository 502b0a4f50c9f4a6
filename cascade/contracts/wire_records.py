"""Records as values for the wire, and back; what comes back is validated like any other record.

Keys follow openpi's habit of one flat map with slashes in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from cascade.contracts.action import ActionChunk, ActionSpace, SpaceKind
from cascade.contracts.errors import DataError
from cascade.contracts.observation import ArmState, CameraImage, Observation
from cascade.contracts.plan import EeReadout, ImageTransform, PlanLatents, VideoPlan

SCHEMA = "cascade-wire-1"
Values = dict[str, Any]
_READOUT = ("position_m", "opening", "position_std_m", "opening_std", "progress")


def observation_to_wire(observation: Observation, cameras: tuple[str, ...], *, depth: bool = False) -> Values:
    """Return the images of `cameras` (depth only when asked for) and the arm's state."""
    values: Values = {"state/q": np.asarray(observation.arm.q)}
    values["state/T_base_ee"] = np.asarray(observation.arm.T_base_ee)
    values["state/gripper_opening"] = float(observation.arm.gripper_opening)
    values["state/stamp_s"] = float(observation.arm.stamp_s)
    for name in cameras:
        image = observation.image(name)
        key = f"images/{name}"
        values |= {f"{key}/rgb": image.rgb, f"{key}/K": np.asarray(image.K), f"{key}/stamp_s": float(image.stamp_s)}
        if image.T_base_cam is not None:
            values[f"{key}/T_base_cam"] = np.asarray(image.T_base_cam)
        if depth and image.depth_m is not None:
            values[f"{key}/depth_m"] = image.depth_m
    return values


def observation_from_wire(values: Mapping[str, Any]) -> Observation:
    """Return the observation; raises DataError when a key is missing or has the wrong form."""
    names = sorted({key.split("/")[1] for key in values if isinstance(key, str) and key.startswith("images/")})
    images = {
        name: CameraImage(
            rgb=_wanted(values, f"images/{name}/rgb"),
            K=_wanted(values, f"images/{name}/K"),
            stamp_s=_number(values, f"images/{name}/stamp_s"),
            depth_m=values.get(f"images/{name}/depth_m"),
            T_base_cam=values.get(f"images/{name}/T_base_cam"),
        )
        for name in names
    }
    arm = ArmState(
        q=_wanted(values, "state/q"),
        T_base_ee=_wanted(values, "state/T_base_ee"),
        gripper_opening=_number(values, "state/gripper_opening"),
        stamp_s=_number(values, "state/stamp_s"),
    )
    return Observation(images=images, arm=arm)


def plan_to_wire(plan: VideoPlan, *, latents: bool = False) -> Values:
    """Return a plan with its pixels; latents only when asked for."""
    values: Values = {
        "instruction": plan.instruction,
        "camera": plan.camera,
        "crop_px": [float(v) for v in plan.transform.crop_px],
        "frames": plan.frames,
        "frame_dt_s": plan.frame_dt_s,
        "seed": int(plan.seed),
        "provenance": plan.provenance,
    }
    if latents and plan.latents is not None:
        values |= {"latents": plan.latents.values, "latent_space": plan.latents.space}
    if plan.readout is not None:
        values["readout/source"] = plan.readout.source
        found = {name: getattr(plan.readout, name) for name in _READOUT}
        values |= {f"readout/{name}": np.asarray(value) for name, value in found.items() if value is not None}
    return values


def plan_from_wire(values: Mapping[str, Any]) -> VideoPlan:
    """Return the plan; raises DataError when a key is missing or has the wrong form."""
    frames = _wanted(values, "frames")
    if not isinstance(frames, np.ndarray) or frames.ndim != 4:
        raise DataError("plan frames: expected an array (T, H, W, 3), found another.")
    crop = _wanted(values, "crop_px")
    if not isinstance(crop, list | tuple) or len(crop) != 4 or not all(isinstance(v, int | float) for v in crop):
        raise DataError(f"crop_px: expected four numbers, found {str(crop)[:60]}.")
    if not all(np.isfinite(crop)) or min(crop[2:]) <= 0:
        raise DataError(f"crop_px: expected a crop of positive size, found {crop}.")
    readout = None
    if "readout/source" in values:
        parts = {name: values[f"readout/{name}"] for name in _READOUT if f"readout/{name}" in values}
        if missing := [name for name in _READOUT[:4] if name not in parts]:
            raise DataError(f"readout: expected {', '.join(missing)} too, found none.")
        readout = EeReadout(source=_text(values, "readout/source"), **parts)
    latents = None
    if "latents" in values:
        latents = PlanLatents(values=values["latents"], space=_text(values, "latent_space"))
    provenance, dt = values.get("provenance") or {}, values.get("frame_dt_s")
    if not isinstance(provenance, dict):
        raise DataError("provenance: expected a map, found something else.")
    if dt is not None and not (isinstance(dt, int | float) and np.isfinite(dt) and dt > 0):
        raise DataError(f"frame_dt_s: expected a positive number or nothing, found {dt}.")
    return VideoPlan(
        instruction=_text(values, "instruction"),
        camera=_text(values, "camera"),
        transform=ImageTransform(
            crop_px=cast("tuple[float, float, float, float]", tuple(float(v) for v in crop)),
            size_px=(int(frames.shape[2]), int(frames.shape[1])),
        ),
        frames=frames,
        frame_dt_s=dt,
        latents=latents,
        readout=readout,
        seed=int(_number(values, "seed")),
        provenance=provenance,
    )


def chunk_to_wire(chunk: ActionChunk) -> Values:
    """Return a chunk: `actions` (H, 8), xyz [m] + quaternion wxyz + gripper opening, and what goes with them."""
    return {
        "actions": np.concatenate([chunk.values, chunk.gripper[:, None]], axis=1),
        "times_s": np.asarray(chunk.times_s),
        "hold_s": np.asarray(chunk.hold_s),
        "tolerance_m": np.asarray(chunk.tolerance_m),
        "action_space": action_space_to_wire(chunk.space),
        "final": bool(chunk.final),
    }


def chunk_from_wire(values: Mapping[str, Any]) -> ActionChunk:
    """Return the chunk; raises DataError when a key is missing or has the wrong form."""
    actions = _wanted(values, "actions")
    if not isinstance(actions, np.ndarray) or actions.ndim != 2 or actions.shape[1] < 2:
        raise DataError(
            f"actions: expected an array (H, D), found {getattr(actions, 'shape', type(actions).__name__)}."
        )
    return ActionChunk(
        values=actions[:, :-1],
        gripper=actions[:, -1],
        times_s=_wanted(values, "times_s"),
        hold_s=values.get("hold_s"),
        tolerance_m=values.get("tolerance_m"),
        space=action_space_from_wire(values.get("action_space")),
        final=bool(values.get("final", True)),
        provenance={"extractor": "remote"},
    )


def action_space_to_wire(space: ActionSpace) -> Values:
    """Return what the numbers of an action mean."""
    return {"kind": space.kind.value, "frame": space.frame, "rate_hz": space.rate_hz, "gripper": "0 closed .. 1 open"}


def action_space_from_wire(values: Any) -> ActionSpace:
    """Return the action space; raises DataError when it is none that is known."""
    if not isinstance(values, dict):
        raise DataError(f"action_space: expected a map, found {type(values).__name__}.")
    kind, frame, rate = values.get("kind"), values.get("frame"), values.get("rate_hz")
    known = [kind.value for kind in SpaceKind]
    if kind not in known or not isinstance(frame, str) or not (rate is None or isinstance(rate, int | float)):
        raise DataError(f"action_space: expected kind {' or '.join(known)} and a frame, found {str(values)[:80]}.")
    return ActionSpace(kind=SpaceKind(kind), frame=frame, rate_hz=rate)


def _wanted(values: Mapping[str, Any], key: str) -> Any:
    if key not in values:
        raise DataError(f"message: expected the key {key!r}, found none.")
    return values[key]


def _text(values: Mapping[str, Any], key: str) -> str:
    value = _wanted(values, key)
    if not isinstance(value, str):
        raise DataError(f"{key}: expected a text, found {type(value).__name__}.")
    return value


def _number(values: Mapping[str, Any], key: str) -> float:
    value = _wanted(values, key)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise DataError(f"{key}: expected a finite number, found {str(value)[:40]!r}.")
    return float(value)
