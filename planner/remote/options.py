"""Options of the planner `remote`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from cascade.contracts import PluginConfig


class RequestKeys(PluginConfig):
    """Names under which a policy wants its inputs (request: openpi)."""

    image: str = Field("observation/image", description="(H, W, 3) uint8 image of the camera")
    state: str = Field("observation/state", description="(8,) xyz [m], quaternion wxyz, gripper opening 0..1")
    prompt: str = Field("prompt", description="the instruction")


class PolicyActions(PluginConfig):
    """What the numbers of a policy's `actions` mean (request: openpi); nothing is guessed."""

    kind: Literal["ee_pose", "ee_delta"] = Field(
        "ee_pose",
        description="ee_pose: (H, 8) absolute xyz, quaternion wxyz, gripper. ee_delta: (H, 7) steps of xyz [m] and "
        "rotation vector [rad] in the base frame, each from the target before, and gripper.",
    )
    rate_hz: float = Field(10.0, gt=0, description="actions per second")
    gripper: Literal["opening", "closing"] = Field("opening", description="whether 1 means open or closed")
    key: str = Field("actions", description="name of the array in the reply")
    frames_key: str = Field("frames", description="name of the imagined frames in the reply, if it has them")


class RemoteConfig(PluginConfig):
    """Options of the planner `remote`."""

    url: str = Field("ws://127.0.0.1:8000", description="address of the server, ws:// or wss://")
    camera: str = Field("corner", description="camera whose image is sent")
    request: Literal["cascade", "openpi"] = Field(
        "cascade", description="cascade: another cascade serves a planner; openpi: a policy that speaks openpi's wire"
    )
    timeout_s: float = Field(10.0, gt=0, le=600, description="deadline of one reply")
    connect_timeout_s: float = Field(3.0, gt=0, le=60, description="deadline of a connection and its handshake")
    token_file: Path | None = Field(
        None, description="file that holds the server's token; default: the environment variable CASCADE_TOKEN, if set"
    )
    max_mib: int = Field(64, ge=1, le=2048, description="largest reply that is read [MiB]")
    send_depth: bool = Field(False, description="send depth too")
    size_px: int | None = Field(None, ge=16, le=2048, description="resize the longer side to this before sending")
    planner: str | None = Field(None, description="refuse a server whose planner has another name")
    keys: RequestKeys = Field(default_factory=RequestKeys, description="names a policy wants (request: openpi)")
    actions: PolicyActions = Field(default_factory=PolicyActions, description="what a policy's actions mean")

    @field_validator("url")
    @classmethod
    def _websocket(cls, url: str) -> str:
        if not url.startswith(("ws://", "wss://")):
            raise ValueError("expected an address that begins with ws:// or wss://")
        return url
