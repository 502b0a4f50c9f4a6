"""Between gate and motion: may the arm move, and if it is in fault, what has to be done about it."""

from __future__ import annotations

from time import monotonic

from cascade.consent import Confirm, Kind, Proposal, describe
from cascade.contracts.errors import DeviceError, OperatorStop
from cascade.contracts.hardware import HardwareRig
from cascade.contracts.interfaces import ArmableArm, Rig
from cascade.contracts.records import ArmMode, GateReport
from cascade.events import Recorder

REFUSED = "Consent was not given"


class Permission:
    """Asks for every motion of one episode, and keeps a record of the answers.

    Args:
        rig: whose arm is to move.
        recorder: is told every answer.
        execute: whether anything is to move at all.
        confirm: who is asked; None: nobody.
    """

    def __init__(self, rig: Rig, recorder: Recorder, execute: bool, confirm: Confirm | None) -> None:
        self._rig, self._recorder, self._confirm = rig, recorder, confirm
        self.execute = execute
        self.instruction = ""

    def home(self) -> None:
        """Ask before the reset of a real rig that goes to its rest pose."""
        hardware = self._rig.hardware if isinstance(self._rig, HardwareRig) else None
        if self.execute and hardware is not None and hardware.home:
            self._ask(Proposal(kind=Kind.HOME, instruction=self.instruction))

    def chunk(self, kind: Kind, report: GateReport, plan: int, number: int) -> float:
        """Ask before a chunk; returns how long the answer took [s].

        Raises:
            OperatorStop: the answer was no.
        """
        # The question names limits as largest values, so that checks with a least one are left to the gate table.
        held = [check for check in report.measured if check.unit and check.value <= check.limit]
        margins = {check.check: (check.value, check.limit, check.unit) for check in held}
        return self._ask(
            Proposal(
                kind=kind,
                instruction=self.instruction,
                plan=plan,
                number=number,
                chunk=report.chunk,
                margins=margins,
            )
        )

    def ready(self) -> None:
        """Have the arm armed, where that is something a rig does."""
        if isinstance(self._rig, HardwareRig):
            self._rig.ready()

    def _ask(self, proposal: Proposal) -> float:
        if self._confirm is None:
            return 0.0
        began = monotonic()
        agreed = self._confirm(proposal)
        waited_s = monotonic() - began
        self._recorder.event("consent", agreed=agreed, waited_s=round(waited_s, 2), **describe(proposal))
        if not agreed:
            raise OperatorStop(f"{REFUSED}; the arm holds.")
        return waited_s


def fault_of(rig: Rig) -> DeviceError | None:
    """Return the arm's latched fault as an error that says what clears it, or None when it has none."""
    try:
        state = rig.arm.read()
    except DeviceError:
        return None
    if state.mode not in (ArmMode.FAULT, ArmMode.ESTOP):
        return None
    faults = "; ".join(map(str, state.faults)) or "no cause given"
    problem = (
        f"arm {rig.arm.spec.name!r}: in {'fault' if state.mode is ArmMode.FAULT else 'emergency stop'} ({faults})."
    )
    if state.mode is ArmMode.ESTOP:
        return DeviceError(problem, "Release the emergency stop at the robot, then run again.")
    if isinstance(rig, HardwareRig) and rig.hardware is not None:
        return DeviceError(problem, f"Look at the arm, then: cascade drivers clear {rig.name}")
    if isinstance(rig, HardwareRig):
        return DeviceError(problem, "Nothing real is behind this rig: run again, and it starts anew.")
    return DeviceError(problem, "Clear the fault at the arm.")


def note_arm_events(rig: Rig, recorder: Recorder) -> None:
    """Put the arm's own log (modes, faults, refusals) into the record of the run."""
    if isinstance(rig.arm, ArmableArm):
        for event in rig.arm.events():
            recorder.event("arm", what=event.kind, code=event.code, message=event.message, stamp_s=event.stamp_s)
