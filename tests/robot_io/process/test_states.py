from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.contracts import ArmMode, DeviceError
from robot_io.process.deadman import STUCK_NS, DeadmanWatch
from robot_io.process.faults import Faults
from robot_io.process.states import TABLE, Modes, Trigger, after
from robot_io.process.watches import Finding, Severity

S = 1_000_000_000


@given(st.lists(st.sampled_from([t for t in Trigger if t not in (Trigger.CLEARED, Trigger.CLOSED)])))
def test_nothing_but_clearing_leaves_a_fault_and_nothing_but_letting_go_leaves_an_emergency_stop(
    triggers: list[Trigger],
) -> None:
    mode = ArmMode.FAULT
    for trigger in triggers:
        mode = after(mode, trigger)
    assert mode is (ArmMode.ESTOP if Trigger.ESTOP in triggers else ArmMode.FAULT)
    assert after(ArmMode.ESTOP, Trigger.CLEARED) is ArmMode.ESTOP
    assert after(ArmMode.ESTOP, Trigger.CLOSED) is ArmMode.DISCONNECTED


def test_only_arming_leads_into_armed() -> None:
    assert {trigger for (_, trigger), mode in TABLE.items() if mode is ArmMode.ARMED} == {Trigger.ARM}
    assert after(ArmMode.FAULT, Trigger.CLEARED) is ArmMode.IDLE


def test_every_change_of_mode_is_logged_once() -> None:
    lines: list[tuple[object, ...]] = []
    modes = Modes(lambda *line: lines.append(line))
    modes.apply(Trigger.CONNECTED, "connected", 5)
    modes.apply(Trigger.TARGET, "target", 6)
    modes.apply(Trigger.FAULT, "link_lost", 7)
    modes.apply(Trigger.FAULT, "link_lost", 8)
    assert lines == [
        (5, "transition", "connected", "disconnected -> idle"),
        (7, "transition", "link_lost", "idle -> fault"),
    ]


def test_a_fault_is_latched_once_and_cleared_by_its_own_token_only() -> None:
    lines: list[tuple[object, ...]] = []
    faults = Faults(lambda *line: lines.append(line))
    for _ in range(3):
        faults.add(Finding("force_limit", Severity.BRAKE_FAULT, "60 N"), 1)
    assert len(faults.latched) == len(lines) == 1
    with pytest.raises(DeviceError, match="force_limit"):
        faults.clear("guess", 2)
    faults.clear(faults.latched[0].token, 2)
    assert faults.latched == ()


class Switch(dict[str, int]):
    def set(self, now_ns: int, pressed: bool) -> None:
        if bool(self.get("deadman_pressed")) != pressed:
            self["deadman_changed_ns"] = now_ns
        self["deadman_ns"], self["deadman_pressed"] = now_ns, int(pressed)


def hold(watch: DeadmanWatch, switch: Switch, start_s: float, end_s: float, pressed: bool) -> str:
    reason = ""
    for now_ns in range(round(start_s * S), round(end_s * S), S // 50):
        switch.set(now_ns, pressed)
        reason = watch.look(switch, now_ns)
    return reason


def test_a_deadman_counts_after_it_was_seen_released_and_held_for_a_moment() -> None:
    watch, switch = DeadmanWatch(), Switch(deadman_changed_ns=0)
    watch.begin(True)
    assert hold(watch, switch, 1, 2, True) == "deadman"  # pressed already when armed
    assert hold(watch, switch, 2, 2.1, False) == "deadman"
    assert hold(watch, switch, 2.1, 2.2, True) == "deadman"
    assert hold(watch, switch, 2.2, 3, True) == ""
    assert hold(watch, switch, 3, 3.1, False) == "deadman"


def test_a_deadman_that_falls_silent_must_be_released_before_it_counts_again() -> None:
    watch, switch = DeadmanWatch(), Switch(deadman_changed_ns=0)
    watch.begin(True)
    hold(watch, switch, 1, 1.1, False)
    assert hold(watch, switch, 1.1, 2, True) == ""
    assert watch.look(switch, round(2.3 * S)) == "deadman"
    assert hold(watch, switch, 2.3, 3, True) == "deadman"
    hold(watch, switch, 3, 3.1, False)
    assert hold(watch, switch, 3.1, 4, True) == ""


def test_a_deadman_that_never_changes_is_stuck() -> None:
    watch, switch = DeadmanWatch(), Switch(deadman_changed_ns=0)
    watch.begin(True)
    hold(watch, switch, 1, 1.1, False)
    assert hold(watch, switch, 1.1, 1.1 + STUCK_NS / S - 1, True) == ""
    assert hold(watch, switch, 60, 62, True) == "deadman_stuck"
    assert DeadmanWatch().look(switch, 0) == ""  # none was asked for
