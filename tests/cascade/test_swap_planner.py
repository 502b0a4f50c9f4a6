"""One line of a recipe puts another planner before the same extractor."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CASCADE = [sys.executable, "-c", "from cascade.cli.app import main; main()"]
UNIPI = Path(__file__).parents[2] / "configs" / "recipes" / "unipi.yaml"


@pytest.fixture
def tiny_wan(tmp_path: Path) -> Path:
    pytest.importorskip("transformers")
    import torch
    from tiny_pipelines import BUILDERS

    torch.manual_seed(0)
    BUILDERS["wan22-ti2v"]().save_pretrained(tmp_path / "wan")
    return tmp_path / "wan"


@pytest.mark.slow  # `tests/examples/test_swap.py` swaps plug-ins in seconds
@pytest.mark.parametrize("name", ["embedded", "diffusers"])
def test_planners_swap_by_one_line_under_an_unchanged_extractor(name: str, tiny_wan: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load(UNIPI.read_text())
    if name == "diffusers":
        recipe["planner"] = {"name": "diffusers", "options": {"model": str(tiny_wan), "width_px": 128, "steps": 2}}
        recipe["planner"]["options"] |= {"num_frames": 17}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe))

    done = subprocess.run(
        [*CASCADE, "run", "open the door", "--recipe", str(path), "--seed", "1", "--no-report", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=280,
    )

    # Random weights imagine noise, which is refused or leads nowhere; trained ones open the door.
    assert done.returncode in ((0,) if name == "embedded" else (4, 6)), done.stderr
    facts = json.loads(next(tmp_path.glob("runs/*/run.json")).read_text())
    assert (facts["planner"], facts["extractor"]) == (name, "idm")
