"""A planner, or a whole recipe, behind a websocket: the openpi wire, with a token, limits and a health page.

A server answers two kinds of requests. A *planning* request (from the planner `remote`) gets plans; when a recipe is
served, the chunk too. A *policy* request (openpi's client: an image, a state, a prompt) gets `actions` (H, 8).
Messages never carry objects, so there is nothing in them to execute.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.contracts.errors import CascadeError, ConfigError, DataError
from cascade.contracts.interfaces import ActionExtractor, Planner, PlanReader
from cascade.contracts.records import ArmState, CameraImage, Observation, VideoPlan
from cascade.contracts.wire import pack, unpack
from cascade.contracts.wire_records import (
    SCHEMA,
    action_space_to_wire,
    chunk_to_wire,
    observation_from_wire,
    plan_to_wire,
)

MOST_SAMPLES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a server answers with.

    Attributes:
        name: of the planner; planner: makes plans.
        extractor, reader: also turn a plan into a chunk, when a recipe is served.
        camera: view that a policy request's image is taken for.
        K, T_base_cam: of that view, for policy requests that do not say theirs.
    """

    name: str
    planner: Planner
    extractor: ActionExtractor | None = None
    reader: PlanReader | None = None
    camera: str = "corner"
    K: np.ndarray[Any, Any] | None = None
    T_base_cam: np.ndarray[Any, Any] | None = None

    def metadata(self) -> dict[str, Any]:
        """What a client is greeted with and compares before anything moves."""
        cameras = self.planner.needs.cameras
        return {
            "schema": SCHEMA,
            "planner": self.name,
            "cameras": None if cameras is None else list(cameras),
            "needs_depth": self.planner.needs.depth,
            "action_space": None if self.extractor is None else action_space_to_wire(self.extractor.produces),
        }

    def answer(self, request: Any) -> dict[str, Any]:
        """Return the reply to one request.

        Raises:
            CascadeError: the request is wrong, or a stage refused it.
        """
        if not isinstance(request, dict):
            raise DataError(f"request: expected a map, found {type(request).__name__}.")
        began = time.perf_counter()
        reply = self._plans(request) if "schema" in request else self._actions(request)
        reply["server_timing"] = {"infer_ms": round((time.perf_counter() - began) * 1e3, 3)}
        return reply

    def _plans(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if request["schema"] != SCHEMA:
            raise DataError(f"request: expected schema {SCHEMA}, found {str(request['schema'])[:40]!r}.")
        seed, samples = _count(request, "seed", 0, 2**63 - 1), _count(request, "samples", 1, MOST_SAMPLES)
        observation = observation_from_wire(request)
        plans = self.planner.plan(observation, _prompt(request), seed=seed, samples=samples)
        return {"plans": [self._wired(plan, observation) for plan in plans]}

    def _wired(self, plan: VideoPlan, observation: Observation) -> dict[str, Any]:
        values = plan_to_wire(plan)
        if self.extractor is not None:
            self._read(plan, observation)
            values |= chunk_to_wire(self.extractor.extract(plan, observation))
        return values

    def _actions(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer openpi's client."""
        if self.extractor is None:
            raise DataError(
                f"request: expected a planning request of schema {SCHEMA}, found a policy's.",
                "Serve a recipe instead of a planner to get actions.",
            )
        observation = self._policy_observation(request)
        plan = self.planner.plan(observation, _prompt(request), seed=_count(request, "seed", 0, 2**63 - 1, 0))[0]
        self._read(plan, observation)
        return {**chunk_to_wire(self.extractor.extract(plan, observation)), "frames": plan.frames}

    def _read(self, plan: VideoPlan, observation: Observation) -> None:
        if self.reader is not None:
            plan.readout = self.reader.read(plan, observation)

    def _policy_observation(self, request: Mapping[str, Any]) -> Observation:
        state = np.asarray(_wanted(request, "observation/state"), dtype=np.float64)
        if state.shape != (8,) or not np.isfinite(state).all():
            raise DataError(f"observation/state: expected (8,) xyz, quaternion wxyz, opening, found {state.shape}.")
        rgb = _wanted(request, "observation/image")
        K = request.get("observation/K", self.K)
        if K is None and isinstance(rgb, np.ndarray) and rgb.ndim == 3:
            height, width = rgb.shape[:2]
            K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
        now_s = time.monotonic()
        image = CameraImage(
            rgb=rgb, K=K, T_base_cam=request.get("observation/T_base_cam", self.T_base_cam), stamp_s=now_s
        )
        arm = ArmState(
            q=np.zeros(7), T_base_ee=_pose(state[:7]), gripper_opening=float(np.clip(state[7], 0, 1)), stamp_s=now_s
        )
        return Observation(images={self.camera: image}, arm=arm)


class PlanServer:
    """Serves on one port until closed; requests of several clients are answered one after the other."""

    def __init__(
        self,
        served: Served,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        max_bytes: int = 64 * 2**20,
    ) -> None:
        """Bind; raises ConfigError when the port is taken, or an open address is asked for without a token."""
        if host not in ("127.0.0.1", "localhost", "::1") and not token:
            raise ConfigError(
                f"serve: expected a token for an address that others can reach ({host}), found none.",
                "Set CASCADE_TOKEN, and put TLS in front of it (an SSH tunnel will do).",
            )
        try:
            from websockets.sync.server import serve
        except ImportError as error:
            raise ConfigError(
                "serve: expected the packages websockets and msgpack, found them missing.",
                'Install them: pip install "cascade-wam[remote]".',
            ) from error
        self._served, self._token, self._max_bytes = served, token, max_bytes
        self._busy = threading.Lock()
        quiet = logging.getLogger("cascade.serving")
        try:
            self._server = serve(
                self._talk,
                host,
                port,
                process_request=self._admit,
                compression=None,
                max_size=max_bytes,
                close_timeout=1,
                logger=quiet,
            )
        except OSError as error:
            raise ConfigError(f"serve: cannot listen on {host}:{port} ({error}).", "Choose another --port.") from error
        self.port: int = self._server.socket.getsockname()[1]
        self.address = f"ws://{host}:{self.port}"

    def run(self) -> None:
        """Answer until `close` is called from another thread."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop listening; idempotent."""
        self._server.shutdown()

    def _admit(self, connection: Any, request: Any) -> Any:
        """Answer the health page, and refuse who has not the token."""
        if request.path == "/healthz":
            return connection.respond(200, "OK\n")
        if self._token is not None:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Api-Key {self._token}".encode()):
                return connection.respond(401, "The token is missing or wrong.\n")
        return None

    def _talk(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            connection.send(pack(self._served.metadata()))
            for message in connection:
                connection.send(self._reply(message))
        except ConnectionClosed:
            return

    def _reply(self, message: bytes | str) -> bytes | str:
        """Return the reply as bytes, or an error as text, as openpi does."""
        try:
            if isinstance(message, str):
                raise DataError("request: expected a binary message, found text.")
            request = unpack(message, max_bytes=self._max_bytes)
            with self._busy:
                return pack(self._served.answer(request))
        except CascadeError as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:  # a stage's own mistake must not end the server
            logging.getLogger(__name__).exception("a stage failed")
            return f"{type(error).__name__}: {error}"


def _prompt(request: Mapping[str, Any]) -> str:
    prompt = _wanted(request, "prompt")
    if not isinstance(prompt, str) or len(prompt) > 2000:
        raise DataError("prompt: expected a text of at most 2000 characters, found something else.")
    return prompt


def _count(request: Mapping[str, Any], key: str, least: int, most: int, default: int | None = None) -> int:
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DataError(f"{key}: expected an integer in {least} .. {most}, found {str(value)[:40]!r}.")
    return value


def _wanted(request: Mapping[str, Any], key: str) -> Any:
    if key not in request:
        raise DataError(f"request: expected the key {key!r}, found none.")
    return request[key]


def _pose(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    from scipy.spatial.transform import Rotation

    if abs(float(np.linalg.norm(values[3:])) - 1) > 1e-2:
        raise DataError("observation/state: expected a unit quaternion wxyz at 3..6, found none.")
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(values[3:], scalar_first=True).as_matrix()
    T[:3, 3] = values[:3]
    return T
