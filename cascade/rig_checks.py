"""Is a rig fit to run: its file, its packages, its arm, its cameras and their calibration. Nothing moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from cascade.checks import Check, Status
from cascade.contracts.errors import CascadeError
from cascade.contracts.hardware import HardwareRig
from cascade.contracts.interfaces import ArmableArm, Rig
from cascade.contracts.records import ArmMode

WATCH_S = 1.0
LEAST_RATE = 0.8  # of the images per second that were asked for
OLD_DAYS = 90


def check_rig(name: str) -> list[Check]:
    """Check a rig from its file to its images; ends at the first thing that everything after it needs."""
    from cascade.config import load_rig
    from cascade.plugins import build_plugin

    try:
        config = load_rig(name)
        rig: Rig = build_plugin("rig", config.plugin, config.options)
    except CascadeError as error:
        return [Check("rig", Status.FAIL, error.problem, error.fix)]
    checks = [Check("rig", Status.OK, f"{rig.name}: {_about(rig)}"), *_packages(config.options)]
    with ExitStack() as opened:
        alone = getattr(rig, "arm_alone", None)
        try:
            opened.enter_context(alone() if callable(alone) else rig)
        except CascadeError as error:
            checks.append(Check("arm", Status.FAIL, error.problem, error.fix))
        else:
            checks += _arm(rig)
        for view, camera in rig.cameras.items():
            if callable(alone) and callable(getattr(camera, "health", None)):
                checks += _camera(view, camera)
    checks.append(
        Check("emergency stop", Status.OK, "no program can see it: have one in hand that works without this one")
        if isinstance(rig, HardwareRig) and rig.hardware is not None
        else Check("emergency stop", Status.OK, "nothing real is behind this rig")
    )
    return checks


def _about(rig: Rig) -> str:
    limits, spec = rig.arm.spec.limits, rig.arm.spec
    real = rig.hardware if isinstance(rig, HardwareRig) else None
    where = f"{real.arm} at {real.address}" if real is not None else f"{spec.name}, not real"
    return f"{where}; cap {limits.max_speed_m_s:.3g} m/s; cameras {', '.join(rig.cameras)}"


def _packages(options: dict[str, Any]) -> Iterator[Check]:
    from cascade.vendor import install_line, vendor_packages

    parts = [("arm", options.get("arm")), *dict(options.get("cameras") or {}).items()]
    for where, part in parts if isinstance(options.get("cameras"), dict) else []:
        plugin = part.get("plugin", "") if isinstance(part, dict) else ""
        packages = vendor_packages(plugin)
        missing = [name for name, found in packages.items() if found is None]
        if missing:
            found = f"{plugin} ({where}) needs {', '.join(missing)}"
            yield Check("packages of rig", Status.FAIL, found, install_line(plugin))
        elif packages:
            versions = ", ".join(f"{name} {found}" for name, found in packages.items())
            yield Check("packages of rig", Status.OK, f"{plugin}: {versions}")


def _arm(rig: Rig) -> Iterator[Check]:
    states = [rig.arm.read()]
    until = time.monotonic() + WATCH_S
    try:
        while time.monotonic() < until:
            time.sleep(0.005)
            states.append(rig.arm.read())
    except CascadeError as error:
        yield Check("arm", Status.FAIL, error.problem, error.fix)
        return
    state, rate = states[-1], (len({state.stamp_s for state in states}) - 1) / WATCH_S
    found = f"{state.mode.value}, {rate:.0f} states per second"
    if state.mode in (ArmMode.FAULT, ArmMode.ESTOP):
        faults = "; ".join(map(str, state.faults))
        yield Check("arm", Status.FAIL, f"{found}; {faults}", f"cascade drivers clear {rig.name}")
    else:
        yield Check("arm", Status.OK, found)
    if isinstance(rig.arm, ArmableArm):
        late = rig.arm.lateness()
        found = (
            f"{late.rate_hz:.0f} Hz ({late.scheduling}): p99 {late.p99_ms:.2f} ms, worst {late.worst_ms:.2f} ms late"
        )
        fits = late.p99_ms < 0.5e3 / late.rate_hz
        fix = "" if fits else "See the line on real time; end what else is running."
        yield Check("arm process", Status.OK if fits else Status.WARN, found, fix)


def _camera(view: str, camera: Any) -> Iterator[Check]:
    name = f"camera {view}"
    try:
        with camera:
            time.sleep(WATCH_S)
            camera.read(max_age_s=WATCH_S)
            health, calibration = camera.health(), camera.calibration
            wanted = float(camera.config.fps)
            problem = camera.calibration_problem
    except CascadeError as error:
        yield Check(name, Status.FAIL, error.problem, error.fix)
        return
    slow = health.fps < LEAST_RATE * wanted
    fix = "Another USB port, fewer pixels, or a lower fps." if slow else ""
    yield Check(name, Status.WARN if slow or not health.good else Status.OK, f"{health} (asked {wanted:.0f} fps)", fix)
    if problem is not None:
        yield Check(f"calibration {view}", Status.WARN, problem.problem, problem.fix)
    elif calibration is None:
        found = "none: recipes that need to know where the camera is will be refused"
        yield Check(f"calibration {view}", Status.WARN, found, "cascade calibrate hand-eye")
    else:
        days = (datetime.now(UTC) - calibration.date).days
        residual = f"{calibration.residual_px:.2f} px" + (
            f", {calibration.residual_m * 1e3:.1f} mm" if calibration.residual_m is not None else ""
        )
        old = days > OLD_DAYS
        fix = "cascade calibrate hand-eye" if old else ""
        yield Check(
            f"calibration {view}", Status.WARN if old else Status.OK, f"{days} days old, residual {residual}", fix
        )
