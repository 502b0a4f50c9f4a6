"""Error codes of the xArm controller: what they mean, what to do, and how they count.

Numbers from UFACTORY's user manual (appendix on controller error codes); wording and judgement are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_io.arms.driver import DeviceFault, Safety


@dataclass(frozen=True, slots=True)
class Meaning:
    """Stable name, sentence for people, and the safety state it stands for."""

    code: str
    sentence: str
    safety: Safety = Safety.PROTECTIVE_STOP


_ESTOP = "Release it, check the cell, then clear the fault."
_SERVICE = "Power-cycle the controller; if it returns, ask the vendor."

MEANINGS: dict[int, Meaning] = {
    1: Meaning("estop", f"the emergency stop button on the controller is pressed. {_ESTOP}", Safety.ESTOP),
    2: Meaning("estop", f"the emergency stop input of the controller is open. {_ESTOP}", Safety.ESTOP),
    3: Meaning("estop", f"the emergency stop of the enabling switch is pressed. {_ESTOP}", Safety.ESTOP),
    10: Meaning("servo_error", f"a joint motor reports an error. {_SERVICE}", Safety.FAULT),
    **{
        10 + joint: Meaning("servo_error", f"the motor of joint {joint} reports an error. {_SERVICE}", Safety.FAULT)
        for joint in range(1, 8)
    },
    18: Meaning("force_sensor_lost", "the force sensor does not answer. Check its cable and settings.", Safety.FAULT),
    19: Meaning(
        "tool_lost", "the tool does not answer. Check its plug, its power and the gripper option.", Safety.FAULT
    ),
    21: Meaning("kinematics", "no joints reach the commanded pose. Choose a pose inside the reach."),
    22: Meaning("self_collision", "the arm was about to touch itself. Guide it away by hand, then clear the fault."),
    23: Meaning("joint_limit", "a joint is beyond its range. Move it back from the vendor's screen."),
    24: Meaning("overspeed", "a command was faster than the controller allows. Lower the speed limits of the rig."),
    25: Meaning("planning", "the controller could not plan the motion. Choose other targets or go slower."),
    26: Meaning("controller_error", f"the controller's real-time part failed. {_SERVICE}", Safety.FAULT),
    27: Meaning("controller_error", f"the joints do not answer the controller. {_SERVICE}", Safety.FAULT),
    28: Meaning("tool_lost", "the board at the flange does not answer. Power-cycle the controller.", Safety.FAULT),
    30: Meaning("overspeed", "a joint was measured faster than allowed. Check the payload settings.", Safety.VIOLATION),
    31: Meaning("collision", "a motor's current says that the arm hit something. Look, free it, then clear the fault."),
    33: Meaning("controller_error", f"the controller's digital inputs failed. {_SERVICE}", Safety.FAULT),
    35: Meaning(
        "safety_boundary", "the tool reached the boundary set in the controller. Guide it back inside by hand."
    ),
    37: Meaning("payload", "the arm drifted in hand guiding. Check the payload and the mounting in the controller."),
    38: Meaning("joint_angle", f"a joint angle is implausible. {_SERVICE}", Safety.FAULT),
    39: Meaning("power_board", f"the power board failed. {_SERVICE}", Safety.FAULT),
    40: Meaning("planning", "the controller found no joint path without error. Choose other targets."),
    50: Meaning("force_sensor_lost", "the force sensor cannot be read. Check its cable.", Safety.FAULT),
    53: Meaning("force_sensor_overload", "the force sensor is overloaded. Unload the tool, then clear the fault."),
    60: Meaning("overspeed", "the tool was faster than the controller allows in servo mode. Lower the rig's limits."),
    110: Meaning("controller_error", f"the board in the arm's base does not answer. {_SERVICE}", Safety.FAULT),
    111: Meaning(
        "tool_lost", "the device on the controller's RS-485 port does not answer. Check its cable.", Safety.FAULT
    ),
}


def meaning(error_code: int) -> Meaning:
    """Return what a controller error code means; codes that are not in the table latch as well."""
    unknown = Meaning("controller_error", "look the number up in the vendor's manual.", Safety.FAULT)
    return MEANINGS.get(error_code, unknown)


def fault(error_code: int) -> DeviceFault:
    """Return the latching fault of a controller error code."""
    found = meaning(error_code)
    return DeviceFault(code=found.code, message=f"The xArm controller reports error {error_code}: {found.sentence}")
