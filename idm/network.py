"""The inverse-dynamics network: what the hand does in an image, and what it must do to get from one image to another.

A keypoint encoder after "Deep spatial autoencoders for visuomotor learning" (Finn et al. 2016, arXiv 1509.06113): soft
arg-max points on a fine feature map, features pooled where the points look. Point 0 is tied to the projected tool
centre, and a small sharp crop around it reads the fingers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

FORMAT_VERSION = 1
LOG_STD_RANGE = (-7.0, 1.0)  # e^-7 of a metre is 1 mm; keeps a lucky frame from claiming to be exact


class Encoding(NamedTuple):
    """What the encoder keeps of B frames, float32."""

    embedding: Tensor  # (B, E)
    heat: Tensor  # (B, cells) log-probabilities of the tool centre
    point: Tensor  # (B, 2) tool centre in the image, -1..1, x right and y down
    view: Tensor  # (B,) int64, through which of the network's views


class Pose(NamedTuple):
    """Pose head, float32: `position_m` (B, 3), `opening` (B,), and the logs of their standard deviations."""

    position_m: Tensor
    opening: Tensor
    log_std_m: Tensor  # (B, 3)
    log_std_opening: Tensor  # (B,)


class Motion(NamedTuple):
    """Pair head, float32, from a current frame to a goal frame."""

    to_goal_m: Tensor  # (B, 3)
    next_m: Tensor  # (B, 3) over the next moment (`next_s` of the configuration)
    goal_opening: Tensor  # (B,)
    seconds: Tensor  # (B,) time to go


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU(inplace=True))


class InverseDynamicsNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """About 1 M parameters. Knows the camera views of its configuration: name, intrinsics and pose of each.

    All views share what sees the hand. Each has its own geometry, its own last layer, and a word in the layer before.

    Args:
        camera: name of the view.
        image_size_px: side of the square input.
        K: (3, 3) intrinsics of that input [px].
        T_base_cam: (4, 4) pose of the camera in the arm base.
        position_mean_m, position_std_m: (3,) of the training positions, for scaling proprioception.
        depth_mean_m, depth_std_m: of the tool centre's distance along the view axis.
        widths: channels at 1/4, 1/8 and 1/16 of the input.
        keypoints: number of soft arg-max points.
        glimpse_px: side of the sharp crop around the tool centre.
        hidden, embedding: widths of the two layers after the encoder.
        next_s: how far ahead `Motion.next_m` looks.
        temperature_position, temperature_opening: factors that make the spreads honest (see `idm.calibration`).
        views: camera, K, T_base_cam, depth_mean_m and depth_std_m of every view, when there is more than one; the
            arguments of those names then count for nothing.
        action_space: kind, frame and rate of the actions these readings may become.
        format_version: of this layout of weights.
    """

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        camera: str = "corner",
        image_size_px: int = 128,
        K: Sequence[Sequence[float]] = ((150.0, 0.0, 64.0), (0.0, 150.0, 64.0), (0.0, 0.0, 1.0)),
        T_base_cam: Sequence[Sequence[float]] = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0)),
        position_mean_m: Sequence[float] = (0.0, 0.6, 0.2),
        position_std_m: Sequence[float] = (0.15, 0.15, 0.1),
        depth_mean_m: float = 1.0,
        depth_std_m: float = 0.15,
        widths: Sequence[int] = (40, 80, 128),
        keypoints: int = 24,
        glimpse_px: int = 32,
        hidden: int = 136,
        embedding: int = 128,
        next_s: float = 0.075,
        temperature_position: float = 1.0,
        temperature_opening: float = 1.0,
        views: Sequence[dict[str, Any]] | None = None,
        action_space: dict[str, Any] | None = None,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), _block(48, fine), _block(fine, fine))
        self.middle = nn.Sequential(_block(fine, middle, 2), _block(middle, middle), _block(middle, middle))
        self.coarse = nn.Sequential(_block(middle, coarse, 2), _block(coarse, coarse), _block(coarse, coarse))
        self.coarse_to_middle = nn.Conv2d(coarse, middle, 1)
        self.middle_to_fine = nn.Conv2d(middle, fine, 1)
        self.merge = _block(fine, fine)
        self.points = nn.Conv2d(fine, keypoints, 1)
        self.map = nn.Conv2d(coarse, 8, 1)
        self.glimpse = nn.Sequential(
            nn.PixelUnshuffle(2), _block(12, 32), _block(32, 64, 2), _block(64, 64, 2), nn.Flatten()
        )
        map_size = 8 * (image_size_px // 16) ** 2
        glimpse_size = 64 * (glimpse_px // 8) ** 2
        self.glimpse_out = nn.Sequential(nn.Linear(glimpse_size, 64), nn.ReLU(inplace=True))
        features = keypoints * (fine + 2) + map_size + 64
        self.trunk = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, embedding), nn.ReLU(inplace=True)
        )
        known = views or [single_view(camera, K, T_base_cam, depth_mean_m, depth_std_m)]
        self.cameras = tuple(str(view["camera"]) for view in known)
        self.pose_head = nn.Linear(embedding, 8 * len(known))
        self.condition = nn.Embedding(len(known), hidden) if len(known) > 1 else None
        if self.condition is not None:
            nn.init.zeros_(self.condition.weight)
        self.pair_head = nn.Sequential(nn.Linear(2 * embedding + 4 + 4, 128), nn.ReLU(inplace=True), nn.Linear(128, 8))
        lens = torch.tensor([view["K"] for view in known], dtype=torch.float64)
        self._constant("lens", lens)
        self._constant("K_inverse", torch.linalg.inv(lens))
        self._constant("T", torch.tensor([view["T_base_cam"] for view in known], dtype=torch.float64))
        self._constant("depth_mean", torch.tensor([view["depth_mean_m"] for view in known]))
        self._constant("depth_std", torch.tensor([view["depth_std_m"] for view in known]))
        self._constant("position_mean", torch.tensor(position_mean_m))
        self._constant("position_std", torch.tensor(position_std_m))
        size = image_size_px // 4
        centres = (torch.arange(size) + 0.5) / size * 2 - 1
        grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1)  # (h, w, 2): x, y
        self._constant("grid", grid.reshape(-1, 2))
        offsets = (torch.arange(glimpse_px) + 0.5 - glimpse_px / 2) * 2 / image_size_px
        self._constant("glimpse_grid", torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), -1))

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.float(), persistent=False)

    def encode(self, images: Tensor, view: Tensor | None = None) -> Encoding:
        """Encode (B, 3, H, W) float images in 0..1, seen through views (B,) int64; None for the first view."""
        if view is None:
            view = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        x = (images - 0.5).contiguous(memory_format=torch.channels_last)
        fine = self.stem(x)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = middle + F.interpolate(self.coarse_to_middle(coarse), scale_factor=2.0, mode="nearest")
        merged = self.merge(fine + F.interpolate(self.middle_to_fine(middle), scale_factor=2.0, mode="nearest"))
        logits = self.points(merged)
        with self._exact(images):
            heat = logits.flatten(2).float().log_softmax(-1)
            weight = heat.exp()
            places = weight @ self.grid  # (B, points, 2)
            pooled = weight @ merged.flatten(2).transpose(1, 2).float()
            crop = self._crop(images, places[:, 0].detach())
        fovea = self.glimpse(crop)
        overview = self.map(coarse).flatten(1)
        with self._exact(images):
            seen = self.glimpse_out(fovea.float())
            features = [places.flatten(1), pooled.flatten(1), overview.float(), seen]
            hidden = self.trunk[0](torch.cat(features, 1))
            if self.condition is not None:
                hidden = hidden + self.condition(view)
            embedding = self.trunk[1:](hidden)
        return Encoding(embedding, heat[:, 0], places[:, 0], view)

    def _crop(self, images: Tensor, point: Tensor) -> Tensor:
        grid = self.glimpse_grid[None] + point[:, None, None]
        crop = F.grid_sample(images - 0.5, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return crop.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def _exact(like: Tensor) -> torch.autocast:
        """Float32 where it matters: a bfloat16 image place is a quarter of a pixel too coarse."""
        return torch.autocast(like.device.type, enabled=False)

    def pose(self, encoding: Encoding) -> Pose:
        """Read position and opening: the tool centre's ray and the distance along it, so geometry is not learned."""
        with self._exact(encoding.embedding):
            view = encoding.view
            heads = self.pose_head(encoding.embedding).unflatten(1, (-1, 8))
            out = heads[torch.arange(len(view), device=view.device), view]
            depth = self.depth_mean[view] + self.depth_std[view] * out[:, 2]
            position = self.unproject(encoding.point + 0.1 * out[:, :2], depth, view)
        log_std = (out[:, 4:8] - 3.0).clamp(*LOG_STD_RANGE)
        return Pose(position, out[:, 3] + 0.5, log_std[:, :3], log_std[:, 3])

    def motion(self, current: Encoding, goal: Encoding, position_m: Tensor, opening: Tensor) -> Motion:
        """Motion from the current frame (with its proprioception, (B, 3) and (B,)) to the goal frame."""
        place = (position_m - self.position_mean) / self.position_std
        inputs = [current.embedding, goal.embedding, place, opening[:, None], current.point, goal.point]
        with self._exact(place):
            out = self.pair_head(torch.cat(inputs, 1))
        return Motion(out[:, :3] * 0.05, out[:, 3:6] * 0.05, out[:, 6] + 0.5, F.softplus(out[:, 7]) * 0.1)

    def project(self, position_m: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """Return ((B, 2) image place in -1..1, (B,) depth [m]) of positions (B, 3) in the base frame."""
        T = self.T[view]
        camera = torch.einsum("bi,bij->bj", position_m - T[:, :3, 3], T[:, :3, :3])
        pixels = torch.einsum("bij,bj->bi", self.lens[view], camera)
        return pixels[:, :2] / pixels[:, 2:] * (2 / self.config.image_size_px) - 1, camera[:, 2]

    def unproject(self, place: Tensor, depth_m: Tensor, view: Tensor) -> Tensor:
        """Inverse of `project`."""
        T = self.T[view]
        uv = (place + 1) * (self.config.image_size_px / 2)
        pixels = torch.cat([uv, torch.ones_like(uv[:, :1])], 1)
        ray = torch.einsum("bij,bj->bi", self.K_inverse[view], pixels) * depth_m[:, None]
        position: Tensor = torch.einsum("bij,bj->bi", T[:, :3, :3], ray) + T[:, :3, 3]
        return position

    def view(self, camera: str) -> int:
        """Return which of its views a camera is; raises ValueError when it knows no camera of that name."""
        return self.cameras.index(camera)

    def take_over(self, other: InverseDynamicsNet) -> None:
        """Copy what another network of the same widths has learnt; views that it lacks begin as its first one."""
        values = other.state_dict()
        rows = [other.cameras.index(c) if c in other.cameras else 0 for c in self.cameras]
        for name in ("pose_head.weight", "pose_head.bias"):
            values[name] = values[name].unflatten(0, (-1, 8))[rows].flatten(0, 1)
        words = values.pop("condition.weight", None)
        if self.condition is not None:
            values["condition.weight"] = torch.zeros_like(self.condition.weight) if words is None else words[rows]
        elif words is not None:
            values["trunk.0.bias"] = values["trunk.0.bias"] + words[rows[0]]
        self.load_state_dict(values)


def single_view(
    camera: str,
    K: Sequence[Sequence[float]],
    T_base_cam: Sequence[Sequence[float]],
    depth_mean_m: float,
    depth_std_m: float,
) -> dict[str, Any]:
    """Return one entry of the configuration's `views`."""
    return {
        "camera": camera,
        "K": K,
        "T_base_cam": T_base_cam,
        "depth_mean_m": depth_mean_m,
        "depth_std_m": depth_std_m,
    }
