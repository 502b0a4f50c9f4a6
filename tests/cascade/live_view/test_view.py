"""The live view: what the page hears, who may press its buttons, and what they do."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest

from cascade.consent import Kind, Policy, Proposal
from cascade.contracts import DeviceError, ImageTransform, VideoPlan
from cascade.live_view import LiveView


@pytest.fixture
def view() -> Iterator[LiveView]:
    with LiveView() as served:
        yield served


def address(view: LiveView) -> tuple[str, int, str]:
    """Host, port and query of a view's page."""
    parts = urlsplit(view.url)
    return parts.hostname or "", parts.port or 0, parts.query


@contextmanager
def reply_to(view: LiveView, method: str, path: str, token: str | None, body: str, headers: dict[str, str]):
    host, port, query = address(view)
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request(method, f"{path}?{query if token is None else f'token={token}'}", body=body, headers=headers)
        reply = connection.getresponse()
        yield reply
        reply.close()
    finally:
        connection.close()


def ask(view: LiveView, method: str, path: str, *, token: str | None = None, body: object = None, **headers: str):
    with reply_to(view, method, path, token, json.dumps(body or {}), headers) as reply:
        reply.read()
        return reply


def heard(view: LiveView, topic: str):
    """The first value of a topic on a fresh stream."""
    with reply_to(view, "GET", "/events", None, "", {}) as reply:
        wanted = False
        for raw in reply:
            line = raw.decode().strip()
            if line == f"event: {topic}":
                wanted = True
            elif wanted and line.startswith("data: "):
                return json.loads(line[6:])
    raise AssertionError(f"{topic} was never told")


def plan(frames: int = 5) -> VideoPlan:
    whole = ImageTransform(crop_px=(0, 0, 64, 64), size_px=(64, 64))
    video = np.random.default_rng(0).integers(0, 255, (frames, 64, 64, 3), dtype=np.uint8)
    return VideoPlan(instruction="push", camera="corner", transform=whole, frames=video)


class Asked:
    """A question asked in a thread, as a run asks it."""

    def __init__(self, view: LiveView, *, policy: Policy = Policy.EACH, typed: bool = False) -> None:
        self.answer: bool | None = None
        confirm = view.confirm(policy, rows=lambda _: [("rig", "sim")], typed=typed)
        self.confirm = confirm
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.answer = self.confirm(Proposal(kind=Kind.CHUNK, instruction="push"))

    def result(self) -> bool | None:
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()
        return self.answer


def question(view: LiveView) -> dict:
    while (found := heard(view, "ask")) is None:
        pass
    return found


def test_the_page_needs_the_token(view: LiveView) -> None:
    assert ask(view, "GET", "/").status == 200
    assert ask(view, "GET", "/", token="wrong").status == 403
    assert ask(view, "GET", "/events", token="").status == 403
    assert ask(view, "POST", "/stop", token="wrong").status == 403
    assert "no-store" in ask(view, "GET", "/").headers["Cache-Control"]


def test_other_names_and_other_sites_are_refused(view: LiveView) -> None:
    assert ask(view, "GET", "/", Host="rig.example.com").status == 403
    assert ask(view, "POST", "/approve", Origin="https://example.com").status == 403


def test_it_listens_on_loopback_alone(view: LiveView) -> None:
    assert view._server._http.server_address[0] == "127.0.0.1"


def test_a_taken_port_is_said(view: LiveView) -> None:
    with pytest.raises(DeviceError, match="expected a free one"):
        LiveView(address(view)[1])


def test_a_page_that_comes_late_hears_what_it_missed(view: LiveView) -> None:
    view.plan(2, plan())
    view.event("gate", subject="plan", index=2, verdict="pass", violations=[], measured=[])
    view.event("stage", stage="plan", ms=12.5)
    view.picture(0, 0.0, lambda: np.zeros((48, 64, 3), np.uint8))
    assert heard(view, "plan")["count"] == 5
    assert heard(view, "gates")[0]["verdict"] == "pass"
    assert heard(view, "stages") == {"plan": 12.5}
    assert heard(view, "camera")["source"].startswith("data:image/webp")


def test_approve_and_reject_answer_the_question_that_is_open(view: LiveView) -> None:
    for name, expected in (("approve", True), ("reject", False)):
        asked = Asked(view)
        number = question(view)["id"]
        assert ask(view, "POST", f"/{name}", body={"id": number - 1}).status == 409
        assert ask(view, "POST", f"/{name}", body={"id": number}).status == 200
        assert asked.result() is expected
        assert ask(view, "POST", "/approve", body={"id": number}).status == 409


def test_a_real_arm_wants_the_word(view: LiveView) -> None:
    asked = Asked(view, typed=True)
    number = question(view)["id"]
    assert ask(view, "POST", "/approve", body={"id": number}).status == 409
    assert ask(view, "POST", "/approve", body={"id": number, "word": "move"}).status == 200
    assert asked.result() is True


def test_the_policy_says_how_often(view: LiveView) -> None:
    asked = Asked(view, policy=Policy.FIRST)
    ask(view, "POST", "/approve", body={"id": question(view)["id"]})
    assert asked.result() is True
    assert asked.confirm(Proposal(kind=Kind.CHUNK, instruction="push")) is True  # not asked again
    assert Asked(view, policy=Policy.NEVER).result() is True


def test_a_body_that_is_no_object_is_refused(view: LiveView) -> None:
    with reply_to(view, "POST", "/approve", None, "]", {}) as reply:
        assert reply.status == 400
    assert ask(view, "POST", "/approve", body=[1]).status == 400
