"""The planner `remote` against a real server in another process, and against servers that misbehave."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from cascade.contracts import CameraImage, IncompatibleError, Needs, Observation, RemoteError, VideoPlan
from cascade.contracts.records import ActionChunk, ActionSpace, ArmState, EeReadout, ImageTransform
from cascade.contracts.wire import pack, unpack
from cascade.contracts.wire_records import SCHEMA, chunk_to_wire, plan_to_wire
from planner.remote.options import RemoteConfig
from planner.remote.planner import RemotePlanner

pytest.importorskip("websockets")
pytest.importorskip("msgpack")


def observation() -> Observation:
    rng = np.random.default_rng(0)
    T = np.eye(4)
    T[:3, 3] = 0.1, 0.6, 0.2
    image = CameraImage(
        rgb=rng.integers(0, 255, (32, 48, 3), dtype=np.uint8), K=np.eye(3), T_base_cam=np.eye(4), stamp_s=1.0
    )
    return Observation(
        images={"corner": image}, arm=ArmState(q=np.zeros(7), T_base_ee=T, gripper_opening=0.5, stamp_s=1.0)
    )


def plan(camera: str = "corner", frames: int = 4) -> VideoPlan:
    return VideoPlan(
        instruction="x",
        camera=camera,
        transform=ImageTransform(crop_px=(0, 0, 48, 32), size_px=(48, 32)),
        frames=np.zeros((frames, 32, 48, 3), dtype=np.uint8),
        seed=3,
        readout=EeReadout(
            position_m=np.zeros((frames, 3)),
            opening=np.ones(frames),
            position_std_m=np.ones(frames),
            opening_std=np.ones(frames),
            source="test",
        ),
    )


METADATA = {"schema": SCHEMA, "planner": "test", "cameras": ["corner"], "action_space": None}


@contextmanager
def server(answer: Any, metadata: Any = METADATA) -> Iterator[str]:
    """A real websocket server that greets with `metadata` and answers with `answer(request bytes)`."""
    from websockets.sync.server import serve

    def talk(connection: Any) -> None:
        if metadata is not None:
            connection.send(metadata if isinstance(metadata, bytes | str) else pack(metadata))
        for message in connection:
            reply = answer(message)
            if reply is None:
                return
            connection.send(reply)

    with serve(talk, "127.0.0.1", 0, compression=None, max_size=None, close_timeout=0.2) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}"
        running.shutdown()
        thread.join(5)


def remote(url: str, **options: Any) -> RemotePlanner:
    return RemotePlanner(RemoteConfig(url=url, **({"timeout_s": 5.0} | options)))


def plans(message: bytes, **changes: Any) -> bytes:
    asked = unpack(message)
    return pack({"plans": [plan_to_wire(plan()) | changes for _ in range(asked["samples"])]})


def test_a_plan_comes_over_the_wire_as_it_was_made() -> None:
    with server(plans) as url:
        found = remote(url).plan(observation(), "open the door", seed=3, samples=2)

    assert len(found) == 2
    assert found[0].frames.shape == (4, 32, 48, 3)
    assert found[0].readout is not None
    assert found[0].readout.source == "test"
    assert found[0].provenance["remote"] == url


def test_what_is_asked_carries_image_state_and_words() -> None:
    seen: list[Any] = []

    def answer(message: bytes) -> bytes:
        seen.append(unpack(message))
        return plans(message)

    with server(answer) as url:
        remote(url).plan(observation(), "open the door", seed=7)

    np.testing.assert_array_equal(seen[0]["images/corner/rgb"], observation().images["corner"].rgb)
    assert (seen[0]["prompt"], seen[0]["seed"], seen[0]["samples"]) == ("open the door", 7, 1)
    np.testing.assert_allclose(seen[0]["state/T_base_ee"][:3, 3], [0.1, 0.6, 0.2])


def test_nobody_there_is_said_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(RemoteError, match="cascade serve"):
        remote("ws://127.0.0.1:9").plan(observation(), "x", seed=0)
    assert time.monotonic() - began < 4


def test_a_hung_server_is_given_up_at_the_deadline_and_its_late_reply_is_never_used() -> None:
    slow = threading.Event()

    def answer(message: bytes) -> bytes:
        if not slow.is_set():
            slow.set()
            time.sleep(0.8)
            return plans(message, instruction="late")
        return plans(message, instruction="in time")

    with server(answer) as url:
        planner = remote(url, timeout_s=0.3)
        with pytest.raises(RemoteError, match=r"within 0\.3 s"):
            planner.plan(observation(), "x", seed=0)
        time.sleep(0.8)
        again = remote(url, timeout_s=5).plan(observation(), "x", seed=0)
        planner._config = planner._config.model_copy(update={"timeout_s": 5.0})
        planner._connection._timeout_s = 5.0
        once_more = planner.plan(observation(), "x", seed=0)

    assert again[0].instruction == once_more[0].instruction == "in time"


def test_a_silent_greeting_is_given_up() -> None:
    with server(plans, metadata=None) as url, pytest.raises(RemoteError, match="metadata"):
        remote(url, connect_timeout_s=0.3).plan(observation(), "x", seed=0)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "schema"),
        (METADATA | {"schema": "cascade-wire-9"}, "cascade-wire-9"),
        (METADATA | {"cameras": ["wrist"]}, "wrist"),
        (METADATA | {"action_space": {"kind": "joint_position", "frame": "base", "rate_hz": None}}, "joint_position"),
        (METADATA | {"action_space": {"kind": "ee_pose", "frame": "camera", "rate_hz": None}}, "camera"),
        (METADATA | {"action_space": "poses"}, "action_space"),
    ],
)
def test_a_server_of_another_meaning_is_refused_before_anything_is_asked(metadata: Any, words: str) -> None:
    asked: list[bytes] = []

    def answer(message: bytes) -> bytes:
        asked.append(message)
        return plans(message)

    with server(answer, metadata) as url, pytest.raises(IncompatibleError, match=words):
        remote(url).plan(observation(), "x", seed=0)

    assert not asked


def lies() -> list[tuple[str, Any]]:
    good = plan_to_wire(plan())
    chunk = chunk_to_wire(
        ActionChunk(values=np.tile([0, 0, 0, 1.0, 0, 0, 0], (2, 1)), gripper=np.ones(2), times_s=np.arange(2.0))
    )
    return [
        ("no plans", {}),
        ("too many", {"plans": [good, good]}),
        ("not a plan", {"plans": [{}]}),
        ("floats for pixels", {"plans": [good | {"frames": np.zeros((4, 32, 48, 3))}]}),
        ("one frame", {"plans": [good | {"frames": np.zeros((1, 32, 48, 3), np.uint8)}]}),
        ("flat frames", {"plans": [good | {"frames": np.zeros(5, np.uint8)}]}),
        ("NaN reading", {"plans": [good | {"readout/position_m": np.full((4, 3), np.nan)}]}),
        ("half a reading", {"plans": [{k: v for k, v in good.items() if k != "readout/opening"}]}),
        ("crop of nothing", {"plans": [good | {"crop_px": [0, 0, 0, 0]}]}),
        ("NaN actions", {"plans": [good | chunk | {"actions": np.full((2, 8), np.nan)}]}),
        ("joint actions", {"plans": [good | chunk | {"action_space": {"kind": "joint_position", "frame": "base"}}]}),
        ("time runs backwards", {"plans": [good | chunk | {"times_s": np.array([1.0, 0.0])}]}),
        ("another camera", {"plans": [good | {"camera": "wrist"}]}),
        ("a list", [1, 2]),
    ]


@pytest.mark.parametrize(("what", "reply"), lies(), ids=[name for name, _ in lies()])
def test_a_lying_server_is_one_clear_error(what: str, reply: Any) -> None:
    with server(lambda _: pack(reply)) as url, pytest.raises(RemoteError, match="ws://"):
        remote(url).plan(observation(), "x", seed=0)


def test_noise_for_a_reply_is_one_clear_error() -> None:
    rng = np.random.default_rng(1)
    with server(lambda _: bytes(rng.integers(0, 256, 200, dtype=np.uint8))) as url:
        for _ in range(50):
            with pytest.raises(RemoteError):
                remote(url).plan(observation(), "x", seed=0)


def test_an_error_of_the_server_is_told_in_its_words() -> None:
    with server(lambda _: "ConfigError: no such thing") as url, pytest.raises(RemoteError, match="no such thing"):
        remote(url).plan(observation(), "x", seed=0)


def test_other_weights_after_a_reconnection_are_refused() -> None:
    found = iter([METADATA | {"weights": "a"}, METADATA | {"weights": "b"}])
    current: dict[str, Any] = {}

    def answer(message: bytes) -> bytes | None:
        return plans(message) if not current else None

    with server(answer, next(found)) as url:
        planner = remote(url)
        planner.plan(observation(), "x", seed=0)
        planner._connection.close()
        planner._accepted = dict(planner._accepted or {}) | {"weights": "older"}
        with pytest.raises(IncompatibleError, match="other weights"):
            planner.plan(observation(), "x", seed=0)


def test_a_policys_steps_add_up_from_where_the_hand_is() -> None:
    steps = np.zeros((3, 7), dtype=np.float32)
    steps[:, 0], steps[:, 6] = 0.01, 1.0

    with server(lambda _: pack({"actions": steps}), metadata={}) as url:
        planner = remote(url, request="openpi", actions={"kind": "ee_delta", "rate_hz": 5, "gripper": "closing"})
        found = planner.plan(observation(), "pick", seed=0)[0]

    assert found.actions is not None
    np.testing.assert_allclose(found.actions.values[:, 0], [0.11, 0.12, 0.13], atol=1e-6)
    np.testing.assert_allclose(found.actions.times_s, [0.2, 0.4, 0.6])
    np.testing.assert_allclose(found.actions.gripper, 0.0)
    assert found.provenance["imagined"] is False


@pytest.mark.parametrize("actions", [np.zeros((0, 7)), np.zeros((3, 8)), np.full((2, 7), np.nan), "none"])
def test_a_policy_whose_actions_are_none_is_refused(actions: Any) -> None:
    with server(lambda _: pack({"actions": actions}), metadata={}) as url, pytest.raises(RemoteError, match="actions"):
        remote(url, request="openpi", actions={"kind": "ee_delta"}).plan(observation(), "x", seed=0)


class Small:
    """A planner that answers at once."""

    needs = Needs(cameras=("corner",))

    def plan(self, observation: Observation, instruction: str, **_: Any) -> list[VideoPlan]:
        return [plan()]


def _serve(ready: Any) -> None:
    from cascade.serving import PlanServer, Served

    server = PlanServer(Served(name="small", planner=Small()), port=0)
    ready.send(server.address)
    server.run()


def test_a_server_that_is_killed_is_one_clear_error_and_its_successor_is_found() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    assert ours.poll(60)
    planner = remote(ours.recv())
    try:
        assert len(planner.plan(observation(), "x", seed=0)) == 1
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(5)
        with pytest.raises(RemoteError):
            planner.plan(observation(), "x", seed=0)
    finally:
        process.kill()
        planner.close()
    assert ActionSpace().kind == "ee_pose"
