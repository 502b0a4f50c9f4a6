"""The server end of the wire: openpi's published client, tokens, the health page, and ten thousand broken messages."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import ConfigError, DataError, Needs, Observation, VideoPlan
from cascade.contracts.records import ActionChunk, ActionSpace, ImageTransform
from cascade.contracts.wire import pack, unpack

pytest.importorskip("websockets")
pytest.importorskip("msgpack")

from cascade.serving import PlanServer, Served


class Still:
    """A planner that imagines that nothing moves."""

    needs = Needs(cameras=("corner",))

    def plan(self, observation: Observation, instruction: str, *, seed: int, samples: int = 1) -> list[VideoPlan]:
        rgb = observation.image("corner").rgb
        size = (rgb.shape[1], rgb.shape[0])
        transform = ImageTransform(crop_px=(0, 0, *size), size_px=size)
        return [
            VideoPlan(instruction=instruction, camera="corner", transform=transform, frames=np.stack([rgb] * 3))
            for _ in range(samples)
        ]


class Up:
    """An extractor that goes up."""

    needs = Needs()
    produces = ActionSpace()

    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        values = np.tile([0, 0, 0, 1.0, 0, 0, 0], (3, 1))
        values[:, :3] = observation.arm.position_m + np.array([[0, 0, 0.01], [0, 0, 0.02], [0, 0, 0.03]])
        return ActionChunk(values=values, gripper=np.ones(3), times_s=np.arange(3.0))


@contextmanager
def running(**options: Any) -> Iterator[PlanServer]:
    server = PlanServer(Served(name="still", planner=Still(), extractor=Up()), port=0, **options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server
    server.close()
    thread.join(5)


def policy_request() -> dict[str, Any]:
    return {
        "observation/image": np.zeros((24, 32, 3), np.uint8),
        "observation/state": np.array([0.1, 0.6, 0.2, 1, 0, 0, 0, 1], np.float32),
        "prompt": "go up",
    }


def test_the_published_client_of_openpi_gets_actions() -> None:
    client = pytest.importorskip("openpi_client.websocket_client_policy")
    with running() as server:
        policy = client.WebsocketClientPolicy(host=server.address)
        reply = policy.infer(policy_request())
        assert policy.get_server_metadata()["planner"] == "still"
        policy._ws.close()

    np.testing.assert_allclose(
        reply["actions"][:, :3], [[0.1, 0.6, 0.21], [0.1, 0.6, 0.22], [0.1, 0.6, 0.23]], atol=1e-6
    )
    assert reply["server_timing"]["infer_ms"] >= 0


def test_arrays_of_the_published_client_are_read_and_ours_by_it() -> None:
    theirs = pytest.importorskip("openpi_client.msgpack_numpy")
    value = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.uint8(7), "c": "text", "d": [1, 2.5, None]}

    for found in (unpack(theirs.packb(value)), theirs.unpackb(pack(value))):
        np.testing.assert_array_equal(found["a"], value["a"])
        assert (found["b"], found["c"], list(found["d"])) == (7, "text", [1, 2.5, None])


def test_the_health_page_answers() -> None:
    with running(token="secret") as server:
        where = urlparse(server.address)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=5)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()


def test_without_the_token_nobody_gets_in() -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with running(token="secret") as server:
        with pytest.raises(InvalidStatus):
            connect(server.address, proxy=None)
        with connect(server.address, additional_headers={"Authorization": "Api-Key secret"}, proxy=None) as socket:
            assert unpack(socket.recv(timeout=5))["planner"] == "still"


def test_an_open_address_wants_a_token() -> None:
    with pytest.raises(ConfigError, match="token"):
        PlanServer(Served(name="still", planner=Still()), host="0.0.0.0", port=0)


def test_a_taken_port_is_said() -> None:
    with running() as server, pytest.raises(ConfigError, match="--port"):
        PlanServer(Served(name="still", planner=Still()), port=server.port)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_from_anywhere_are_read_or_refused(data: bytes) -> None:
    try:
        unpack(data)
    except DataError:
        return


@pytest.mark.parametrize("dtype", ["O", "S8", "U8", "V8", "c16", "M8[s]", "f16"])
def test_arrays_of_objects_and_texts_do_not_travel(dtype: str) -> None:
    message = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": np.dtype(dtype).str, b"shape": (1,)}
    with pytest.raises(DataError, match="array"):
        unpack(pack(message))


def test_an_array_that_claims_more_than_it_brings_is_refused() -> None:
    message = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f8", b"shape": [2**40]}
    with pytest.raises(DataError, match="bytes"):
        unpack(pack(message))


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_broken_messages_do_not_end_the_server(count: int) -> None:
    from websockets.sync.client import connect

    rng = np.random.default_rng(0)
    good = pack(policy_request())
    with running() as server, connect(server.address, compression=None, proxy=None) as socket:
        socket.recv(timeout=5)
        texts = 0
        for index in range(count):
            data = bytearray(good)
            for _ in range(int(rng.integers(1, 8))):
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
            message: bytes | str = bytes(data[: int(rng.integers(1, len(data) + 1))]) if index % 3 else bytes(data)
            socket.send(message)
            texts += isinstance(socket.recv(timeout=10), str)
        socket.send(good)
        assert "actions" in unpack(socket.recv(timeout=5))
    assert texts > count / 2
