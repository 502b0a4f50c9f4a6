"""A run whose planner is elsewhere, on the real simulator: the motion that was accepted is done, then the arm holds."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from cascade.config import load_recipe, load_rig
from cascade.contracts import ArmMode, IncompatibleError, RemoteError
from cascade.contracts.wire import pack
from cascade.pipeline import build_stages
from cascade.plugins import build_plugin
from cascade.runtime import run_episode

pytest.importorskip("websockets")
pytest.importorskip("msgpack")


@contextmanager
def policy(answers: list[Any], metadata: Any) -> Iterator[str]:
    """A websocket server that gives its answers one after the other; a number is a time to hang, None closes."""
    from websockets.sync.server import serve

    left = list(answers)

    def talk(connection: Any) -> None:
        connection.send(pack(metadata))
        for _ in connection:
            answer = left.pop(0) if left else None
            if isinstance(answer, float):
                time.sleep(answer)
            if answer is None or isinstance(answer, float):
                return
            connection.send(pack(answer))

    with serve(talk, "127.0.0.1", 0, compression=None, close_timeout=0.2) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}"
        running.shutdown()


def steps(size_m: float = 0.01) -> dict[str, Any]:
    actions = np.zeros((8, 7))
    actions[:, 2], actions[:, 6] = size_m, 1.0
    return {"actions": actions}


def episode(url: str) -> tuple[Any, ArmMode]:
    options = [f"planner.options.url={url}", "planner.options.timeout_s=0.5", "execution.receding_plans=3"]
    stages, config = build_stages(load_recipe("remote-policy", options)), load_rig("sim")
    try:
        with build_plugin("rig", config.plugin, config.options) as rig:
            result = run_episode(rig, stages, instruction="go up", task="reach", seed=3)
            rig.clock.tick()  # a stop counts from the next control period on
            return result, rig.arm.read().mode
    finally:
        stages.close()


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (3.0, "within"),
        (None, "link broke"),
        ({"actions": np.full((8, 7), np.nan)}, "finite"),
        ({"actions": np.zeros((8, 3))}, "expected an array"),
        ([1, 2], "map"),
    ],
    ids=["hangs", "is killed", "sends NaN", "sends another shape", "sends a list"],
)
def test_what_was_accepted_is_done_then_the_arm_holds(second: Any, words: str) -> None:
    with policy([steps(), second], {}) as url:
        result, mode = episode(url)

    assert result.outcome == "error"
    assert result.failure_stage == "planner"
    assert isinstance(result.error, RemoteError)
    assert words in str(result.error)
    assert result.plans == 1
    assert result.steps > 0
    assert mode in (ArmMode.HOLD, ArmMode.IDLE)


def test_a_server_of_another_action_space_moves_nothing() -> None:
    metadata = {"action_space": {"kind": "joint_position", "frame": "base", "rate_hz": None}}
    with policy([steps()], metadata) as url:
        result, _ = episode(url)

    assert isinstance(result.error, IncompatibleError)
    assert result.steps == 0


def test_a_policy_that_wants_out_of_the_workspace_is_refused_by_the_same_gate() -> None:
    with policy([steps(0.5)] * 3, {}) as url:
        result, _ = episode(url)

    assert result.outcome == "rejected"
    assert result.steps == 0
