"""What clean runs measure at most: limits of the checks, from a calibration run and never from the source.

`benchmarks/blame.py --calibrate` writes the file; every check's limit is a high quantile of runs without a fault.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascade.contracts import ConfigError


class Limits(BaseModel):
    """Largest values of runs without a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reprojection_px: float = Field(gt=0, description="Median shift of scene points per 128 px of image width [px].")
    tracking_m: float = Field(gt=0, description="Mean distance of the recorded hand from the commands replayed [m].")
    delay_s: float = Field(gt=0, description="Delay between commanded and measured motion [s].")
    gripper: float = Field(gt=0, description="Share of its way that the gripper does not go when told to.")
    extraction_m: float = Field(gt=0, description="Median error of the hand read in executed frames [m].")
    extraction_share: float = Field(gt=0, description="Wrong length of the way read in executed frames, as a share.")
    extraction_path_m: float = Field(
        gt=0, description="The same for extractors that give targets only: warped distance from the measured path [m]."
    )
    start_m: float = Field(gt=0, description="Error of the hand read in the plan's first frame [m].")
    runs: int = Field(ge=1, description="Clean runs these were measured on.")
    quantile: float = Field(gt=0, le=1, description="Of their values.")
    slack: float = Field(ge=1, description="Factor on the quantile.")
    made: str = Field(description="Command, date and commit.")


@cache
def shipped_limits() -> Limits:
    """Return the limits measured on the simulated rig with the recipe unipi."""
    return load_limits(Path(str(files("cascade.blame"))) / "limits.json")


def load_limits(path: Path) -> Limits:
    """Read a file of limits.

    Raises:
        ConfigError: it is missing or broken.
    """
    try:
        return Limits.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ConfigError(
            f"{path}: expected limits for blame, found none that can be read ({error}).",
            "Write some with benchmarks/blame.py --calibrate.",
        ) from error
