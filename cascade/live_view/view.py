"""A run's live view: listens to the run (a Recorder), shows it, and asks in the page (a Confirm)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self

from cascade.consent import WORD, Confirm, Kind, Policy, Proposal
from cascade.contracts.records import ActionChunk, VideoPlan
from cascade.events import Look
from cascade.follower import ControlStep
from cascade.live_view.board import Board
from cascade.live_view.server import ViewServer

CAMERA_HZ = 8.0
QUALITY = 82
LARGEST_PX = 320
MOST_GATES = 12
LAST_LOOK_S = 1.5  # for pages to hear how the run ended
Rows = Callable[[Proposal], Sequence[tuple[str, str]]]


class LiveView:
    """Shows one run in a page on loopback (a Recorder); `with` serves it.

    A picture that cannot be made costs the page a picture, never the run.

    Args:
        port: of 127.0.0.1; 0 takes a free one.

    Raises:
        DeviceError: the port is taken.
    """

    def __init__(self, port: int = 0) -> None:
        self._board = Board()
        self._server = ViewServer(self._board, self._press, port)
        self._gates: list[Mapping[str, Any]] = []
        self._stages: dict[str, float] = {}
        self._pictured_s = -1.0
        self._answered = threading.Event()
        self._asked: dict[str, Any] | None = None
        self._agreed = False
        self._number = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Address of the page, token included."""
        return self._server.url

    @property
    def wants_pixels(self) -> bool:
        """Yes: the plan is shown."""
        return True

    def __enter__(self) -> Self:
        """Serve the page."""
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let pages hear the end, then stop serving."""
        until = monotonic() + LAST_LOOK_S
        self._board.close()
        while self._server.watching and monotonic() < until:
            threading.Event().wait(0.02)
        self._server.close()

    # --- what happens (a Recorder) ------------------------------------------------------------------------------------

    def event(self, kind: str, **values: Any) -> None:
        """Show gates, times per stage, and how the run began and ended."""
        if kind == "gate":
            self._gates = [*self._gates, values][-MOST_GATES:]
            self._board.put("gates", self._gates)
        elif kind == "stage":
            self._stages[str(values["stage"])] = float(values["ms"])
            self._board.put("stages", self._stages)
        elif kind == "episode_begin":
            self._board.put("about", values)
        elif kind in ("motion", "outcome"):
            self._board.put(kind, values)

    def plan(self, index: int, plan: VideoPlan) -> None:
        """Show the imagined video."""
        from cascade.report.images import encode_sheets, fit

        sheets = encode_sheets(fit(plan.frames, largest=LARGEST_PX), quality=QUALITY)
        self._board.put("plan", {"index": index, "instruction": plan.instruction, **sheets.as_json()})
        if self._pictured_s < 0:  # frame 0 is what the camera saw
            self._picture(0, 0.0, lambda: plan.frames[0], 0)

    def chunk(self, index: int, plan: int, chunk: ActionChunk) -> None:
        """Show how many targets are next."""
        self._board.put("chunk", {"index": index, "plan": plan, "targets": len(chunk)})

    def step(self, number: int, t_s: float, plan: int, chunk: int, step: ControlStep, look: Look) -> None:
        """Show what the camera sees, a few times a second and only while somebody watches."""
        now_s = monotonic()
        if self._server.watching and now_s - self._pictured_s >= 1 / CAMERA_HZ:
            self._pictured_s = now_s
            self._picture(number, t_s, look, step.index)

    def picture(self, number: int, t_s: float, look: Look) -> None:
        """Show what the camera sees before the first motion."""
        self._picture(number, t_s, look, 0)

    def _picture(self, number: int, t_s: float, look: Look, target: int) -> None:
        from cascade.contracts import CascadeError
        from cascade.report.images import data_uri, fit

        try:
            source = data_uri(fit(look()[None], largest=LARGEST_PX)[0], quality=QUALITY)
        except CascadeError:
            return
        self._board.put("camera", {"source": source, "step": number, "t_s": round(t_s, 3), "target": target})

    # --- what a person wants ------------------------------------------------------------------------------------------

    def confirm(self, policy: Policy, *, rows: Rows, typed: bool) -> Confirm:
        """Return who asks in the page.

        Args:
            policy: how often.
            rows: what a person has to know before the arm moves, as names and words.
            typed: whether the word has to be typed, as a real arm wants it.
        """
        agreed: set[Kind] = set()

        def ask(proposal: Proposal) -> bool:
            kind = Kind.HOME if proposal.kind is Kind.HOME else Kind.CHUNK
            if policy is Policy.NEVER or (policy is Policy.FIRST and kind in agreed):
                return True
            if self._ask(proposal, rows, typed=typed):
                agreed.add(kind)
                return True
            return False

        return ask

    def _ask(self, proposal: Proposal, rows: Rows, *, typed: bool) -> bool:
        with self._lock:
            self._number += 1
            self._answered.clear()
            self._agreed = False
            self._asked = {
                "id": self._number,
                "kind": proposal.kind.value,
                "plan": proposal.plan,
                "chunk": proposal.number,
                "targets": 0 if proposal.chunk is None else len(proposal.chunk),
                "instruction": proposal.instruction,
                "rows": dict(rows(proposal)),
                "margins": {} if typed else {name: list(margin) for name, margin in (proposal.margins or {}).items()},
                "word": WORD if typed else "",
            }
        self._board.put("ask", self._asked)
        try:
            while not self._answered.wait(0.1):  # in pieces, so that Ctrl-C is heard meanwhile
                pass
        finally:
            with self._lock:
                self._asked = None
            self._board.put("ask", None)
        return self._agreed

    def _press(self, name: str, said: Mapping[str, Any]) -> bool:
        if name == "stop":
            os.kill(os.getpid(), signal.SIGINT)  # what Ctrl-C does, with the same promises
            return True
        with self._lock:
            asked = self._asked
            if asked is None or said.get("id") != asked["id"] or self._answered.is_set():
                return False
            if name == "approve" and asked["word"] and said.get("word") != asked["word"]:
                return False
            self._agreed = name == "approve"
            self._answered.set()
            return True
