"""A synthetic table to try a stage on: a red ball for the gripper, a blue one for the object, seen by one camera.

Distances are as on the default rig: the table is the plane z = 0 in the arm's base frame, the arm reaches forward along
y. Everything is exact (depth, segmentation, intrinsics, extrinsics) and drawn in numpy, so a test needs no simulator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmState, CameraImage, DataError, EeReadout, ImageTransform, Observation, VideoPlan

Floats = NDArray[np.float64]

GRIPPER_RADIUS_M = 0.045
OBJECT_RADIUS_M = 0.04
SEGMENTS = {"table": (0,), "gripper": (1,), "object": (2,)}
COLOURS = np.array([[150, 140, 130], [220, 50, 40], [40, 80, 220]], dtype=np.float64)
CAMERA_M = np.array([0.0, -0.35, 0.95])
TARGET_M = np.array([0.0, 0.65, 0.05])
START_M = (0.0, 0.6, 0.2)
OBJECT_M = (0.1, 0.7, 0.04)


def camera_pose() -> Floats:
    """Return the (4, 4) pose of the camera in the arm's base frame, OpenCV axes."""
    forward = (TARGET_M - CAMERA_M) / np.linalg.norm(TARGET_M - CAMERA_M)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    T[:3, 3] = CAMERA_M
    return T


def intrinsics(size: int) -> Floats:
    """Return the (3, 3) intrinsics [px] of the square camera, 32 degrees wide."""
    focal = size / 2 / np.tan(np.deg2rad(16))
    return np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])


def _render(
    ee_m: Floats, object_m: Floats, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]]:
    u, v = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    in_camera = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics(size)).T
    rays = in_camera @ camera_pose()[:3, :3].T  # not unit: the ray's parameter is z-depth itself
    depth = -CAMERA_M[2] / np.minimum(rays[..., 2], -1e-9)
    shade = np.where(np.floor((CAMERA_M[:2] + depth[..., None] * rays[..., :2]) / 0.1).sum(axis=-1) % 2 == 0, 1.0, 0.85)
    segment = np.zeros((size, size), dtype=np.int32)
    for index, centre, radius in ((1, ee_m, GRIPPER_RADIUS_M), (2, object_m, OBJECT_RADIUS_M)):
        offset = CAMERA_M - centre
        a, b, c = (rays**2).sum(axis=-1), rays @ offset, offset @ offset - radius**2
        root = b**2 - a * c
        hit = (-b - np.sqrt(np.maximum(root, 0))) / a
        nearer = (root > 0) & (hit > 0) & (hit < depth)
        normal = (offset + hit[..., None] * rays) / radius
        depth = np.where(nearer, hit, depth)
        shade = np.where(nearer, 0.6 + 0.4 * np.clip(normal[..., 2], 0, 1), shade)
        segment[nearer] = index
    rgb = np.clip(COLOURS[segment] * shade[..., None], 0, 255).astype(np.uint8)
    return rgb, depth.astype(np.float32), segment


def tabletop_observation(
    *,
    ee_m: Sequence[float] | Floats = START_M,
    object_m: Sequence[float] | Floats = OBJECT_M,
    opening: float = 1.0,
    camera: str = "corner",
    size: int = 128,
    stamp_s: float = 0.0,
) -> Observation:
    """Return an observation of the table with RGB, depth, segmentation and extrinsics.

    Args:
        ee_m: position of the gripper in the base frame.
        object_m: position of the object.
        opening: measured gripper opening 0..1.
        camera: name of the only camera.
        size: width and height of its image [px].
        stamp_s: time of the observation.
    """
    ee = np.asarray(ee_m, dtype=np.float64)
    rgb, depth, segment = _render(ee, np.asarray(object_m, dtype=np.float64), size)
    image = CameraImage(
        rgb=rgb,
        K=intrinsics(size),
        stamp_s=stamp_s,
        depth_m=depth,
        segmentation=segment,
        segment_names=SEGMENTS,
        T_base_cam=camera_pose(),
    )
    T = np.diag([1.0, -1.0, -1.0, 1.0])  # fingers pointing down
    T[:3, 3] = ee
    return Observation(
        images={camera: image},
        arm=ArmState(q=np.zeros(7), T_base_ee=T, gripper_opening=opening, stamp_s=stamp_s),
    )


def tabletop_plan(
    observation: Observation | None = None, *, length: int = 17, camera: str = "corner", plan_id: str | None = None
) -> VideoPlan:
    """Return an exact plan on the table: reach the object, close on it, carry it to the left; with its true readout.

    Args:
        observation: where it starts (arm and image size); by default `tabletop_observation()`.
        length: number of frames T, frame 0 included, at least 8.
        camera: camera it looks through.
        plan_id: name of the plan.
    """
    if length < 8:
        raise DataError(f"tabletop_plan: expected a length of at least 8, found {length}.")
    observation = observation or tabletop_observation(camera=camera)
    size = observation.image(camera).rgb.shape[0]
    start, grasp = observation.arm.position_m, np.array(OBJECT_M)
    reach, dwell = length // 2, 2
    carry = length - reach - dwell
    ee = np.concatenate(
        [
            np.linspace(start, grasp, reach),
            np.repeat(grasp[None], dwell, axis=0),
            np.linspace(grasp, grasp + np.array([-0.15, 0.0, 0.1]), carry + 1)[1:],
        ]
    )
    opening = np.array([1.0] * reach + [0.6] * dwell + [0.4] * carry)
    carried = np.where(np.arange(length)[:, None] >= reach + dwell, ee, grasp)
    frames = np.stack([_render(ee[t], carried[t], size)[0] for t in range(length)])
    return VideoPlan(
        instruction="carry the blue ball to the left",
        camera=camera,
        transform=ImageTransform(crop_px=(0, 0, size, size), size_px=(size, size)),
        frames=frames,
        readout=EeReadout(
            position_m=ee,
            opening=opening,
            position_std_m=np.full(length, 0.005),
            opening_std=np.full(length, 0.02),
            progress=np.linspace(0, 1, length),
            source="tabletop",
        ),
        provenance={"planner": "tabletop"},
        plan_id=plan_id,
    )
