import io
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from rich.console import Console

from cascade.compose import compose, execute
from cascade.config import load_rig
from cascade.consent import Consent, Kind, Policy, Proposal
from cascade.contracts import ActionChunk, ConfigError, Limits
from cascade.contracts.hardware import Hardware, HardwareRig
from cascade.events import NoRecord
from cascade.pipeline import build_stages
from cascade.plugins import build_plugin
from cascade.runtime import run_episode

HARDWARE = Hardware(arm="ur ur5e", address="192.168.1.10", home="to its home at 0.30, 0.00, 0.30 m")
LIMITS = Limits(
    workspace_m=np.array([[0.2, -0.4, 0.0], [0.7, 0.4, 0.5]]),
    max_speed_m_s=0.25,
    max_acceleration_m_s2=1.0,
    max_jerk_m_s3=10.0,
    max_step_m=0.1,
    max_rotation_rad=0.3,
    max_force_n=40.0,
)


def chunk():
    values = np.tile([0.4, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0], (3, 1))
    values[:, 0] += [0.0, 0.05, 0.1]
    return ActionChunk(values=values, gripper=np.ones(3), times_s=np.array([0.0, 0.5, 1.0]))


def proposal(kind=Kind.CHUNK, number=0, **more):
    return Proposal(kind=kind, instruction="open the door", number=number, chunk=chunk(), **more)


def consent(policy, *answers):
    left = list(answers)

    def read(prompt):
        if not left:
            raise EOFError
        return left.pop(0)

    out = io.StringIO()
    asked = Consent(
        HARDWARE, LIMITS, policy, speed=0.1, console=Console(file=out, width=80, color_system=None), read=read
    )
    return asked, out, left


def test_a_person_sees_robot_address_cap_workspace_sentence_and_clip_within_80_columns(tmp_path):
    clip = tmp_path / "plan.mp4"
    ask, out, _ = consent(Policy.EACH, "move")
    assert ask(proposal(clip=clip, margins={"workspace": (0.0, 0.08, "m")}))
    text = out.getvalue()
    for part in ("ur ur5e", "192.168.1.10", "0.25 m/s", "10% of the rig", "open the door", "0.20 .. 0.70", "40 N"):
        assert part in text
    assert "plan.mp4" in text.replace("│", "").replace("\n", "").replace(" ", "")
    assert "3 targets over 0.10 m" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("answer", ["", "yes", "y", "mov", "no", "move it"])
def test_anything_but_the_word_is_a_no(answer):
    ask, _, _ = consent(Policy.FIRST, answer)
    assert not ask(proposal())


def test_the_end_of_input_is_a_no():
    ask, _, _ = consent(Policy.FIRST)
    assert not ask(proposal())


def test_each_asks_every_time_and_first_asks_once_per_kind():
    ask, _, left = consent(Policy.EACH, "move", "Move ", "no")
    assert ask(proposal())
    assert ask(proposal(number=1))
    assert not ask(proposal(number=2))
    ask, _, left = consent(Policy.FIRST, "move", "move", "no")
    assert ask(proposal(Kind.HOME))
    assert ask(proposal())
    assert ask(proposal(number=1))
    assert ask(proposal(Kind.RETURN, number=2))
    assert left == ["no"]


def test_never_waits_for_nobody_but_shows_what_happens():
    ask, out, _ = consent(Policy.NEVER)
    assert ask(proposal())
    assert "192.168.1.10" in out.getvalue()


def test_without_a_terminal_a_real_arm_is_refused_before_anything_is_built(monkeypatch):
    from cascade.consent import require_terminal

    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(ConfigError, match="terminal"):
        require_terminal(Policy.FIRST)
    require_terminal(Policy.NEVER)


@dataclass
class Guarded:
    """The simulated rig as if a real arm were behind it: it counts when it was permitted and armed."""

    rig: object
    hardware: Hardware = HARDWARE
    permitted: int = 0
    armed: int = 0

    def __getattr__(self, name):
        return getattr(self.rig, name)

    def permit_motion(self):
        self.permitted += 1

    def ready(self):
        self.armed += 1

    def missing(self, signal):
        return ""


@dataclass
class Events(NoRecord):
    rows: list = field(default_factory=list)

    def event(self, kind, **values):
        self.rows.append({"kind": kind, **values})


@pytest.fixture(scope="module")
def sim():
    config = load_rig("sim")
    with build_plugin("rig", config.plugin, config.options) as rig:
        yield rig


@pytest.fixture(scope="module")
def stages():
    run, _ = compose(instruction="x", task=None, seed=0, rig="sim", recipe="unipi", planner="oracle")
    built = build_stages(run.recipe)
    yield built
    built.close()


def episode(rig, stages, **more):
    events = Events()
    result = run_episode(rig, stages, instruction="open the door", task="door-open", seed=0, recorder=events, **more)
    return result, events.rows


def test_planning_only_ends_where_the_arm_would_begin_to_move(sim, stages):
    guarded = Guarded(sim)
    assert isinstance(guarded, HardwareRig)
    result, rows = episode(guarded, stages, execute=False)
    assert (result.outcome, result.exit_code, result.moved) == ("planned", 0, False)
    assert guarded.armed == 0
    assert sim.monitor.steps == 0
    assert [row["subject"] for row in rows if row["kind"] == "gate"] == ["plan", "chunk"]


def test_a_no_to_the_first_motion_moves_nothing_and_ends_like_a_stop(sim, stages):
    guarded = Guarded(sim)
    asked = []
    result, rows = episode(guarded, stages, confirm=lambda p: asked.append(p.kind) or p.kind is Kind.HOME)
    assert asked == [Kind.HOME, Kind.CHUNK]
    assert (result.outcome, result.exit_code, result.steps) == ("interrupted", 130, 0)
    assert "nothing moved" in result.verdict
    assert guarded.armed == 0
    assert [(row["subject"], row["agreed"]) for row in rows if row["kind"] == "consent"] == [
        ("home", True),
        ("chunk", False),
    ]


def test_a_yes_arms_right_before_every_motion(sim, stages):
    guarded = Guarded(sim)
    result, rows = episode(guarded, stages, confirm=lambda p: True)
    assert result.success
    assert guarded.armed == sum(row["kind"] == "motion" for row in rows) > 0


def test_after_a_long_wait_the_scene_is_compared_again(sim, stages, monkeypatch):
    monkeypatch.setattr("cascade.runtime.LONG_WAIT_S", 0.0)
    lit = sim.draw

    def answer(proposal):
        if proposal.kind is Kind.CHUNK:  # somebody switches the light while the arm waits
            monkeypatch.setattr(sim, "draw", lambda camera: replace(lit(camera), rgb=255 - lit(camera).rgb))
        return True

    result, rows = episode(Guarded(sim), stages, confirm=answer)
    assert (result.outcome, result.steps) == ("rejected", 0)
    looked = [(row["subject"], row["verdict"]) for row in rows if row["kind"] == "gate"]
    assert looked[:3] == [("plan", "pass"), ("chunk", "pass"), ("plan", "reject")]


@pytest.mark.slow  # so do all runs of tests/cascade/test_runtime.py
def test_the_simulated_rig_moves_without_asking(tmp_path):
    run, _ = compose(instruction="open the door", task="door-open", seed=0, rig="sim", recipe="unipi", planner="oracle")
    result = execute(run, runs=tmp_path)
    assert result.success
