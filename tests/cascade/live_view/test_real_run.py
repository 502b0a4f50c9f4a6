"""A real run, watched in a real browser: a person approves in the page, and stops the motion there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest


@pytest.mark.parametrize("answer", ["approve and stop", pytest.param("reject", marks=pytest.mark.slow)])
def test_a_person_decides_in_the_page(tmp_path: Path, browser, answer: str) -> None:
    command = ["run", "open the door", "--view", "--confirm", "each", "--no-report", "--json", "--runs", str(tmp_path)]
    command += ["--set", "rig.options.arm_process=false"]
    code = "import sys; from cascade.cli.app import main; sys.argv[0] = 'cascade'; main()"
    run = subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    said: list[str] = []
    url = ""
    for line in run.stderr:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line):
            url = found.group()
            break
    rest = threading.Thread(target=lambda: said.extend(run.stderr or []), daemon=True)
    rest.start()
    assert url, said
    browser.open(url)
    browser.wait("document.documentElement.dataset.state === 'asking'")
    assert "targets?" in browser.eval("document.getElementById('ask-title').textContent")
    assert browser.wait("document.getElementById('gates').tBodies[0].rows.length") > 2
    assert browser.wait("document.getElementById('plan-note').textContent.includes('of 16')")
    if answer == "reject":
        browser.eval("document.getElementById('reject').click()")
    else:
        browser.eval("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'a'}))")
        browser.wait("Number(document.documentElement.dataset.step) > 0")
        browser.eval("document.getElementById('stop').click()")
    browser.wait("document.documentElement.dataset.state === 'done'")
    assert browser.eval("document.documentElement.dataset.error") is None
    assert run.wait(timeout=120) == 130
    assert run.stdout is not None
    result = json.loads(run.stdout.read())
    rest.join(timeout=20)
    run.stdout.close()
    run.stderr.close()
    assert result["outcome"] == "interrupted"
    assert (result["steps"] > 0) is (answer != "reject")
    events = (Path(result["run"]) / "events.jsonl").read_text().splitlines()
    asked = [row for row in map(json.loads, events) if row["kind"] == "consent"]
    assert [row["agreed"] for row in asked] == [answer != "reject"]
