"""Two minutes of what `benchmarks/soak.py` does for an hour."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[3] / "benchmarks" / "soak.py"


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_two_minutes_of_random_faults_are_each_told_once_and_overcome(tmp_path: Path) -> None:
    pytest.importorskip("rtde_control")
    found = tmp_path / "soak.json"
    command = [sys.executable, str(SOAK), "--minutes", "2", "--gap-s", "8", "--json", str(found)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500)
    print(result.stdout)
    document = json.loads(found.read_text())
    assert document["exceptions"] == []
    assert document["verdict"] == dict.fromkeys(document["verdict"], True)
    assert {one["number"] for one in document["injections"]} >= {19, 23}
