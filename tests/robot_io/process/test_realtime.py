"""Punctuality is asked of the system, and counts against other sessions as well."""

import subprocess
import sys
from pathlib import Path

import pytest

AUTOGROUP = Path("/proc/self/autogroup")
ASK = """
from pathlib import Path
from robot_io.process.realtime import become_punctual
print(become_punctual(125, wanted="nice").scheduling)
print(Path("/proc/self/autogroup").read_text())
"""


@pytest.mark.skipif(
    not AUTOGROUP.exists(), reason="no /proc/self/autogroup: needs a kernel with CONFIG_SCHED_AUTOGROUP"
)
def test_niceness_counts_between_sessions_too():
    said = subprocess.run(
        [sys.executable, "-c", ASK], start_new_session=True, capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()

    if said[0] != "nice":
        pytest.skip("no lower niceness granted; allow it: `nice -20` in /etc/security/limits.conf, or CAP_SYS_NICE")
    assert said[1].endswith("nice -15")
