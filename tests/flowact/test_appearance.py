import numpy as np
import pytest

from flowact.appearance import JointSearch, look_of
from flowact.articulation import JointKind, Motion
from flowact.rigid import backproject, project

SIZE = 128
K = np.array([[154.5, 0, 64.0], [0, 154.5, 64.0], [0, 0, 1]])


def looking(position, target):
    z = (target - position) / np.linalg.norm(target - position)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    T[:3, 3] = position
    return T


CAMERA = looking(np.array([-1.1, -0.4, 0.6]), np.array([0.0, 0.6, 0.1]))


def block(centre):
    """A dense coloured box (its surface and inside), drawn point by point."""
    u = np.linspace(-1, 1, 16)
    grid = np.stack(np.meshgrid(u, u, u), axis=-1).reshape(-1, 3) * [0.06, 0.02, 0.03]
    colour = np.where(grid[:, :1] > 0, [[200, 40, 30]], [[40, 60, 200]])
    return np.asarray(centre) + grid, colour


def video(motion, qs, seed=0):
    rng = np.random.default_rng(seed)
    ground = (120 + 25 * rng.random((SIZE // 8, SIZE // 8, 3))).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    points, colour = block([0.05, 0.65, 0.12])
    frames, mask = [], None
    for q in qs:
        frame = ground.copy()
        uv, z = project(K, CAMERA, np.stack([motion.move(p, q) for p in points]))
        order = np.argsort(-z)  # nearer points last
        rows, columns = np.floor(uv[order, 1]).astype(int), np.floor(uv[order, 0]).astype(int)
        frame[rows, columns] = colour[order]
        if mask is None:
            mask = np.zeros((SIZE, SIZE), dtype=bool)
            mask[rows, columns] = True
            depth = float(np.median(z))
        frames.append(frame)
    rows, columns = np.nonzero(mask)
    uv = np.stack([columns + 0.5, rows + 0.5], axis=1)[:: max(1, len(rows) // 45)]
    surface = backproject(K, CAMERA, uv, np.full(len(uv), depth))
    frames = np.stack(frames)
    return frames, look_of(frames[0], mask, depth, K, CAMERA, surface, uv)


def joint(kind, axis, origin=(0, 0, 0)):
    return Motion(
        kind=kind,
        axis=np.asarray(axis, dtype=float),
        origin_m=np.asarray(origin, dtype=float),
        q=np.zeros(13),
        shift_m=np.zeros((13, 3)),
        rms_px=0.0,
        evidence=0.0,
    )


@pytest.mark.parametrize(
    ("motion", "end"),
    [
        (joint(JointKind.PRISMATIC, [0, 1, 0]), 0.14),
        (joint(JointKind.PRISMATIC, [0, 0, 1]), -0.09),
        (joint(JointKind.REVOLUTE, [0, 0, 1], [0.3, 0.7, 0.1]), 0.9),
        (joint(JointKind.REVOLUTE, [0, 0, 1], [0.05, 0.8, 0.1]), -1.1),
    ],
)
def test_the_joint_that_moved_an_object_is_found_from_pixels(motion, end):
    qs = np.concatenate([np.zeros(4), np.linspace(0, end, 9)])
    frames, look = video(motion, qs)
    centre = look.points_m.mean(axis=0)
    found, cost = JointSearch(look, frames, K, CAMERA).best([])
    truth = np.stack([motion.move(centre, q) for q in qs])
    assert np.linalg.norm(found.path(centre)[-1] - truth[-1]) < 0.06
    assert np.median(np.linalg.norm(found.path(centre) - truth, axis=1)) < 0.02
    assert cost < 0.25


def test_something_of_another_colour_passing_in_front_does_not_carry_the_object_along():
    motion = joint(JointKind.PRISMATIC, [0, 1, 0])
    frames, look = video(motion, np.zeros(13))
    for t in range(13):
        frames[t, 20:110, 8 * t : 8 * t + 14] = (250, 250, 60)
    found, _ = JointSearch(look, frames, K, CAMERA).best([])
    centre = look.points_m.mean(axis=0)
    assert np.linalg.norm(found.path(centre) - centre, axis=1).max() < 0.04
