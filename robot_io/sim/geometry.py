"""What a scene looks like, apart from where things are: triangles, colours, lights, segments, cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_io.sim.tasks import OBJECT_PARTS, ObjectPart

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

VISIBLE_GROUPS = (0, 1, 2)
GRIPPER_BODIES = ("hand", "rightclaw", "rightpad", "leftclaw", "leftpad")
_ARM_ROOT = "right_arm_base_link"
_PLANE_HALF_SIZE_M = 6.0


@dataclass(frozen=True, slots=True)
class TriangleMesh:
    """Vertices (N, 3) and unit normals (N, 3) in the geom's frame, faces (M, 3)."""

    vertices: Singles
    normals: Singles
    faces: NDArray[np.int32]


def name_of(model: Any, kind: str, index: int) -> str:
    """Return the name of a body, geom, mat or cam, or ''."""
    return str(getattr(model, kind)(int(index)).name)


_UNSET_RGBA = np.array([0.5, 0.5, 0.5, 1.0])


def own_rgba(model: Any, geom: int) -> Floats:
    """Return a geom's (4,) colour as MuJoCo draws it: its own when one is set, else its material's."""
    rgba = np.array(model.geom_rgba[geom], dtype=np.float64)
    material = int(model.geom_matid[geom])
    if material < 0 or not np.array_equal(rgba, _UNSET_RGBA):
        return rgba
    return np.array(model.mat_rgba[material], dtype=np.float64)


def colours_of(model: Any, geom: int) -> tuple[Floats, Floats]:
    """Return the (3,) colour that light falls on, and the (3,) mean of the texture that filters it; both 0..1.

    Light saturates before the texture is applied, as in OpenGL. At 128 px little more than the mean is seen.
    """
    material = int(model.geom_matid[geom])
    colour = own_rgba(model, geom)[:3]
    texture = int(np.max(model.mat_texid[material])) if material >= 0 else -1
    if texture < 0:
        return colour, np.ones(3)
    start, channels = int(model.tex_adr[texture]), int(model.tex_nchannel[texture])
    count = int(model.tex_height[texture]) * int(model.tex_width[texture]) * channels
    texels = np.asarray(model.tex_data[start : start + count]).reshape(-1, channels)
    return colour, texels[:, :3].mean(axis=0) / 255.0


def visible_geoms(model: Any) -> list[int]:
    """Geoms that are drawn: visual groups, not transparent (a window pane lets the view through)."""
    drawn = []
    for geom in range(model.ngeom):
        if int(model.geom_group[geom]) in VISIBLE_GROUPS and own_rgba(model, geom)[3] >= 0.3:
            drawn.append(geom)
    return drawn


def is_moving(model: Any, geom: int) -> bool:
    """Whether a geom can move within an episode."""
    return int(model.body_weldid[model.geom_bodyid[geom]]) != 0


def mesh_of(model: Any, geom: int) -> TriangleMesh:
    """Triangles of a geom in its own frame."""
    import mujoco

    kind = int(model.geom_type[geom])
    size = np.array(model.geom_size[geom], dtype=np.float64)
    types = mujoco.mjtGeom
    if kind == types.mjGEOM_MESH:
        return _compiled_mesh(model, int(model.geom_dataid[geom]))
    if kind == types.mjGEOM_PLANE:
        half = np.where(size[:2] > 0, np.minimum(size[:2], _PLANE_HALF_SIZE_M), _PLANE_HALF_SIZE_M)
        return _grid_plane(half)
    if kind == types.mjGEOM_BOX:
        return _box(size)
    if kind == types.mjGEOM_CYLINDER:
        return _revolved(np.array([[0, -1], [1, -1], [1, 1], [0, 1]]) * size[:2], flat=True)
    if kind == types.mjGEOM_CAPSULE:
        angle = np.linspace(-np.pi / 2, np.pi / 2, 12)
        z = size[0] * np.sin(angle) + np.where(angle < 0, -size[1], size[1])
        return _revolved(np.stack([size[0] * np.cos(angle), z], axis=1), flat=False)
    radii = np.full(3, size[0]) if kind == types.mjGEOM_SPHERE else size
    angle = np.linspace(-np.pi / 2, np.pi / 2, 17)
    ball = _revolved(np.stack([np.cos(angle), np.sin(angle)], axis=1), flat=False)
    normals = ball.vertices / radii
    return TriangleMesh(
        (ball.vertices * radii).astype(np.float32),
        (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        ball.faces,
    )


def _compiled_mesh(model: Any, mesh: int) -> TriangleMesh:
    first, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    corners = np.asarray(model.mesh_face[first : first + count]).reshape(-1).astype(np.int64)
    normal_ids = np.asarray(model.mesh_facenormal[first : first + count]).reshape(-1).astype(np.int64)
    pairs, faces = np.unique(corners * (1 << 32) + normal_ids, return_inverse=True)
    vertices = np.asarray(model.mesh_vert)[int(model.mesh_vertadr[mesh]) + (pairs >> 32)]
    normals = np.asarray(model.mesh_normal)[int(model.mesh_normaladr[mesh]) + (pairs & 0xFFFFFFFF)]
    return TriangleMesh(vertices.astype(np.float32), normals.astype(np.float32), faces.reshape(-1, 3).astype(np.int32))


def _soup(triangles: Floats) -> TriangleMesh:
    """Flat-shaded mesh from (M, 3, 3) triangles."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    keep = length[:, 0] > 1e-12
    triangles, normals = triangles[keep], normals[keep] / length[keep]
    return TriangleMesh(
        triangles.reshape(-1, 3).astype(np.float32),
        np.repeat(normals, 3, axis=0).astype(np.float32),
        np.arange(len(triangles) * 3, dtype=np.int32).reshape(-1, 3),
    )


def _quads(corners: Floats) -> Floats:
    """(Q, 4, 3) quads, counter-clockwise, as (2Q, 3, 3) triangles."""
    return np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])


def _box(half: Floats) -> TriangleMesh:
    faces = []
    for axis in range(3):
        u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
        for sign in (-1.0, 1.0):
            centre = sign * np.eye(3)[axis]
            u_out = u * sign  # keeps the winding counter-clockwise seen from outside
            faces.append([centre - u_out - v, centre + u_out - v, centre + u_out + v, centre - u_out + v])
    return _soup(_quads(np.array(faces) * half))


def _grid_plane(half: Floats, cells: int = 40) -> TriangleMesh:
    x, y = np.linspace(-half[0], half[0], cells + 1), np.linspace(-half[1], half[1], cells + 1)
    corners = [
        [(x[i], y[j], 0), (x[i + 1], y[j], 0), (x[i + 1], y[j + 1], 0), (x[i], y[j + 1], 0)]
        for i in range(cells)
        for j in range(cells)
    ]
    return _soup(_quads(np.array(corners, dtype=np.float64)))


def _revolved(profile: Floats, *, flat: bool, slices: int = 32) -> TriangleMesh:
    """Surface of revolution about z of an (n, 2) profile of (radius, z), from bottom to top."""
    angle = np.linspace(0, 2 * np.pi, slices, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate(
        [profile[:, None, :1] * ring[None], np.broadcast_to(profile[:, None, 1:], (len(profile), slices, 1))], axis=2
    )
    nxt = np.roll(np.arange(slices), -1)
    quads = np.stack([points[:-1], points[:-1][:, nxt], points[1:][:, nxt], points[1:]], axis=2).reshape(-1, 4, 3)
    mesh = _soup(_quads(quads))
    if flat:  # a cylinder: round side, sharp rims
        side = np.abs(mesh.normals[:, 2]) < 0.5
        radial = mesh.vertices * np.array([1, 1, 0], dtype=np.float32)
        radial = radial / np.maximum(np.linalg.norm(radial, axis=1, keepdims=True), 1e-9)
        return TriangleMesh(mesh.vertices, np.where(side[:, None], radial, mesh.normals), mesh.faces)
    normals = mesh.vertices.copy()
    radius = float(profile[:, 0].max())
    tip = float(np.abs(profile[:, 1]).max()) - radius
    normals[:, 2] -= np.clip(normals[:, 2], -tip, tip)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return TriangleMesh(mesh.vertices, normals.astype(np.float32), mesh.faces)


def segment_names(model: Any, task: str) -> Mapping[str, tuple[int, ...]]:
    """Names of what can be told apart in a segmentation image: bodies, and 'arm', 'gripper', 'object'."""
    segments: dict[str, list[int]] = {"arm": [], "gripper": [], "object": []}
    drawn = visible_geoms(model)
    robot = _descendants(model, _ARM_ROOT)
    for geom in drawn:
        body = int(model.geom_bodyid[geom])
        name = name_of(model, "body", body)
        if name:
            segments.setdefault(name, []).append(geom)
        if name in GRIPPER_BODIES:
            segments["gripper"].append(geom)
        elif body in robot:
            segments["arm"].append(geom)
    others = [g for g in drawn if is_moving(model, g) and int(model.geom_bodyid[g]) not in robot]
    segments["object"] = _object_geoms(model, OBJECT_PARTS.get(task), others)
    return {name: tuple(geoms) for name, geoms in segments.items()}


def _descendants(model: Any, root: str) -> frozenset[int]:
    found = {int(model.body(root).id)}
    for body in range(model.nbody):
        if int(model.body_parentid[body]) in found and body != 0:
            found.add(body)
    return frozenset(found)


def _object_geoms(model: Any, part: ObjectPart | None, moving: list[int]) -> list[int]:
    import mujoco

    if part is None:
        named = [g for g in moving if name_of(model, "geom", g) == "objGeom"]
        return named or moving
    chosen = []
    for geom in moving:
        material = int(model.geom_matid[geom])
        look = name_of(model, "mat", material) if material >= 0 else ""
        off_axis = float(np.linalg.norm(np.asarray(model.geom_pos[geom])[:2]))
        if (
            name_of(model, "body", model.geom_bodyid[geom]) == part.body
            and (not part.geoms or name_of(model, "geom", geom) in part.geoms)
            and (not part.materials or look in part.materials)
            and look not in part.without
            and (part.kind != "mesh" or int(model.geom_type[geom]) == mujoco.mjtGeom.mjGEOM_MESH)
            and off_axis >= part.off_axis_m
        ):
            chosen.append(geom)
    return chosen
