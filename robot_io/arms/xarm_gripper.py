"""UFACTORY's gripper on the xArm's tool bus."""

from __future__ import annotations

from typing import Any

from cascade.contracts.errors import DeviceError

OPEN_PULSES = 850.0  # 84 mm between the fingers; 0 is closed


class XArmGripperLink:
    """The xArm gripper, without the SDK's own waiting and checking.

    Args:
        speed_pulses_s: 350 to 5000.
    """

    def __init__(self, speed_pulses_s: int) -> None:
        self._speed = speed_pulses_s

    def prepare(self, api: Any) -> None:
        """Check the tool bus, clear its error, enable the gripper and set its speed; the fingers stand still."""
        steps = (
            ("clean_gripper_error", api.clean_gripper_error),
            ("set_gripper_mode", lambda: api.set_gripper_mode(0)),
            ("set_gripper_enable", lambda: api.set_gripper_enable(True)),
            ("set_gripper_speed", lambda: api.set_gripper_speed(self._speed)),
        )
        for name, step in steps:
            code = step()
            if code != 0:
                raise DeviceError(
                    f"xArm gripper: {name} answered {code} instead of 0.",
                    "Check its plug at the flange, or set the option gripper to 'none'.",
                )

    def move(self, api: Any, opening: float) -> None:
        """Start towards an opening 0..1."""
        api.set_gripper_position(round(opening * OPEN_PULSES), wait=False, no_check=True)

    def measure(self, api: Any) -> tuple[float | None, int]:
        """Return the opening 0..1 and the gripper's error code."""
        answer = api.get_gripper_position(check_baud=False)
        code, pulses = (
            answer if isinstance(answer, tuple) else (answer, None)
        )  # with a fault, the SDK returns a bare code
        if code or pulses is None:
            return None, int(api.get_gripper_err_code(check_baud=False)[1])
        return min(1.0, max(0.0, pulses / OPEN_PULSES)), 0
