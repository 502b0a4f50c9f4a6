"""The planner that asks another process, on this machine or a GPU server, and trusts nothing it answers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from cascade.contracts import (
    CameraImage,
    CascadeError,
    ConfigError,
    DataError,
    ImageTransform,
    IncompatibleError,
    Needs,
    Observation,
    RemoteError,
    VideoPlan,
)
from cascade.contracts.wire_records import (
    SCHEMA,
    action_space_from_wire,
    chunk_from_wire,
    observation_to_wire,
    plan_from_wire,
)
from planner.remote.connection import Connection
from planner.remote.options import RemoteConfig
from planner.remote.policy import ACTION_SPACE, policy_chunk, policy_frames, policy_request

TOKEN_VARIABLE = "CASCADE_TOKEN"  # noqa: S105  (the name of a variable)


class RemotePlanner:
    """Plans by asking a server (`cascade serve`, or any policy that speaks openpi's wire).

    The server's metadata is compared with what this side expects before the first plan, so before anything moves, and
    again after every reconnection. Replies are validated like a plan of our own.
    """

    def __init__(self, config: RemoteConfig) -> None:
        self._config = config
        self._connection = Connection(
            config.url,
            token=_token(config),
            connect_timeout_s=config.connect_timeout_s,
            timeout_s=config.timeout_s,
            max_bytes=config.max_mib * 2**20,
        )
        self._accepted: dict[str, Any] | None = None

    @property
    def needs(self) -> Needs:
        """The camera whose image is sent."""
        return Needs(cameras=(self._config.camera,), depth=self._config.send_depth)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Ask for `samples` plans.

        Raises:
            RemoteError: the server is unreachable, late, or answers what is no plan.
            IncompatibleError: it says that it is another planner, or that its actions mean something else.
        """
        if goal is not None:
            raise ConfigError("planner 'remote': it cannot send a goal image.", "Leave the goal out.")
        began = time.perf_counter()
        self._greet()
        try:
            if self._config.request == "openpi":
                plans = self._ask_policy(observation, instruction, seed, samples)
            else:
                plans = self._ask_planner(observation, instruction, seed, samples)
        except DataError as error:
            self._connection.close()
            raise RemoteError(
                f"{self._config.url}: expected a plan, found: {error.problem}", "Look at the server's output."
            ) from error
        total_ms = (time.perf_counter() - began) * 1e3
        for plan in plans:
            if plan.camera != self._config.camera:
                raise RemoteError(
                    f"{self._config.url}: expected a plan for camera {self._config.camera!r}, found {plan.camera!r}.",
                    "Name the same camera on both sides.",
                )
            ms = dict(plan.provenance.get("ms") or {}) if isinstance(plan.provenance.get("ms"), dict) else {}
            plan.provenance["ms"] = {**ms, "remote_total": round(total_ms, 3)}
            plan.provenance["remote"] = self._config.url
        return plans

    def _greet(self) -> None:
        """Compare the server's metadata with what is expected here."""
        metadata = dict(self._connection.open())
        if metadata == self._accepted:
            return
        config, url = self._config, self._config.url
        if self._config.request == "cascade" and metadata.get("schema") != SCHEMA:
            found = metadata.get("schema") or "none"
            self._connection.close()
            raise IncompatibleError(
                f"{url}: expected a server of schema {SCHEMA}, found {found}.",
                "Serve it with this version of cascade, or set request: openpi for a policy.",
            )
        cameras = metadata.get("cameras")
        if isinstance(cameras, list) and config.camera not in cameras:
            self._connection.close()
            raise IncompatibleError(
                f"{url}: its planner knows the cameras {', '.join(map(str, cameras))}, asked for {config.camera!r}.",
                "Set the option camera.",
            )
        if config.planner is not None and metadata.get("planner") != config.planner:
            self._connection.close()
            raise IncompatibleError(
                f"{url}: expected planner {config.planner!r}, found {metadata.get('planner')!r}.", "Check the address."
            )
        if metadata.get("action_space") is not None:
            difference = ACTION_SPACE.mismatch(self._declared(metadata))
            if difference:
                self._connection.close()
                raise IncompatibleError(f"{url}: its actions mean something else: {difference}.", "Nothing has moved.")
        if self._accepted is not None and self._accepted.get("weights") != metadata.get("weights"):
            self._accepted = None
            self._connection.close()
            raise IncompatibleError(f"{url}: after a reconnection it serves other weights.", "Start the run again.")
        self._accepted = metadata

    def _declared(self, metadata: Mapping[str, Any]) -> Any:
        try:
            return action_space_from_wire(metadata["action_space"])
        except CascadeError as error:
            self._connection.close()
            raise IncompatibleError(f"{self._config.url}: {error.problem}", "Nothing has moved.") from error

    def _ask_planner(self, observation: Observation, instruction: str, seed: int, samples: int) -> list[VideoPlan]:
        config = self._config
        request = {
            "schema": SCHEMA,
            "prompt": instruction,
            "seed": seed,
            "samples": samples,
            "camera": config.camera,
            **observation_to_wire(observation, (config.camera,), depth=config.send_depth),
        }
        reply = self._connection.call(request)
        found = reply.get("plans")
        if not isinstance(found, list) or len(found) != samples or not all(isinstance(p, dict) for p in found):
            raise DataError(f"plans: expected a list of {samples}, found {type(found).__name__}.")
        plans = [plan_from_wire(values) for values in found]
        for plan, values in zip(plans, found, strict=True):
            if "actions" in values:
                plan.actions = chunk_from_wire(values)
                difference = ACTION_SPACE.mismatch(plan.actions.space)
                if difference:
                    raise DataError(f"actions: {difference}.")
        return plans

    def _ask_policy(self, observation: Observation, instruction: str, seed: int, samples: int) -> list[VideoPlan]:
        config, plans = self._config, []
        image = observation.image(config.camera)
        for sample in range(samples):
            reply = self._connection.call(policy_request(observation, instruction, config))
            chunk = policy_chunk(reply, observation.arm, config.actions)
            frames, imagined = policy_frames(reply, image.rgb, config.actions.frames_key)
            height, width = image.rgb.shape[:2]
            plans.append(
                VideoPlan(
                    instruction=instruction,
                    camera=config.camera,
                    transform=ImageTransform(
                        crop_px=(0, 0, width, height), size_px=(int(frames.shape[2]), int(frames.shape[1]))
                    ),
                    frames=frames,
                    frame_dt_s=None,
                    actions=chunk,
                    seed=seed + sample,
                    provenance={"planner": "remote", "imagined": imagined, "ms": _timing(reply)},
                )
            )
        return plans


def _timing(reply: Mapping[str, Any]) -> dict[str, float]:
    timing = reply.get("server_timing")
    found = timing.items() if isinstance(timing, dict) else ()
    return {
        str(key).removesuffix("_ms"): round(float(value), 3)
        for key, value in found
        if isinstance(value, int | float) and np.isfinite(value)
    }


def _token(config: RemoteConfig) -> str | None:
    if config.token_file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return config.token_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{config.token_file}: expected the file of a token, found none ({error}).") from error
