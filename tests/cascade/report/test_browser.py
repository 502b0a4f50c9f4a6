"""The report in a real browser: its script runs, its keys work, and nothing that a run says is executed."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from cascade.report import build_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium found; on Debian: apt-get install chromium")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--virtual-time-budget=8000",
    "--dump-dom",
)
Opener = Callable[..., str]


@pytest.fixture
def open_page(tmp_path: Path) -> Opener:
    """Open a report, after `act` (JavaScript) has run in it, and return the page as it then is."""

    def open_(report: Path, *, moment: int = 0, act: str = "", size: str = "1280,900") -> str:
        page = report
        if act:
            # The report's own policy forbids other scripts, so the copy under test is let run this one.
            text = report.read_text(encoding="utf-8")
            text = re.sub(r"script-src '[^']+'", "script-src 'unsafe-inline'", text)
            page = report.with_name("acted.html")
            wait = (
                "<script>(function go(){if(document.documentElement.dataset.ready!=='yes')return setTimeout(go,20);"
                "try{ACT;document.documentElement.dataset.acted='yes'}"
                "catch(e){document.documentElement.dataset.error=String(e)}})()</script>"
            )
            page.write_text(text.replace("</body>", wait.replace("ACT", act) + "</body>"), encoding="utf-8")
        command = [str(BROWSER), *FLAGS, f"--window-size={size}", f"--user-data-dir={tmp_path / 'profile'}"]
        result = subprocess.run(
            [*command, f"{page.as_uri()}#moment={moment}"], capture_output=True, text=True, timeout=120, check=True
        )
        dom = result.stdout
        assert 'data-ready="yes"' in dom[:400], dom[:400]
        assert "data-error" not in dom[:400], dom[:400]
        assert not act or 'data-acted="yes"' in dom[:400]
        return dom

    return open_


def shown(dom: str, element: str) -> str:
    found = re.search(rf'id="{element}"[^>]*>(.*?)</(?:span|output)>', dom, re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", found.group(1))).strip() if found else ""


def pressed(key: str, shift: bool = False) -> str:
    event = f"{{key:'{key}',shiftKey:{str(shift).lower()},bubbles:true,cancelable:true}}"
    return f"document.body.dispatchEvent(new KeyboardEvent('keydown',{event}))"


def test_the_page_starts_and_says_the_verdict(make_run, open_page: Opener) -> None:
    dom = open_page(build_report(make_run()), moment=20)
    assert shown(dom, "verdict") == "Done: the goal was reached after 181 control steps."
    assert shown(dom, "executed-note") == "control step 80"
    assert re.fullmatch(r"frame \d+ of 16", shown(dom, "imagined-note"))
    assert shown(dom, "difference-note").startswith("mean ")
    assert re.search(r'class="cursor measured"[^>]* cx="', dom)


def test_keys_step_through_executed_and_imagined_frames(make_run, open_page: Opener) -> None:
    report = build_report(make_run())
    assert shown(open_page(report, act=";".join([pressed("ArrowRight")] * 3)), "executed-note") == "control step 12"
    assert shown(open_page(report, act=pressed("End")), "imagined-note") == "frame 16 of 16"
    assert shown(open_page(report, moment=30, act=pressed("Home")), "executed-note") == "control step 0"
    assert shown(open_page(report, act=pressed("ArrowRight", shift=True)), "imagined-note") == "frame 1 of 16"
    back = open_page(report, moment=10, act=f"{pressed('ArrowLeft')};{pressed('ArrowLeft', shift=True)}")
    assert shown(back, "executed-note") not in ("control step 40", "control step 36")


def test_the_slider_and_a_click_into_a_curve_move_the_cursor(make_run, open_page: Opener) -> None:
    report = build_report(make_run())
    slide = "const s=document.getElementById('scrub');s.value=15;s.dispatchEvent(new Event('input',{bubbles:true}))"
    assert shown(open_page(report, act=slide), "executed-note") == "control step 60"
    click = (
        "const c=document.querySelector('.curve'),b=c.getBoundingClientRect();"
        "c.dispatchEvent(new MouseEvent('click',{clientX:b.left+b.width*.99,clientY:b.top+30,bubbles:true}))"
    )
    assert int(shown(open_page(report, act=click), "executed-note").split()[-1]) >= 172


def test_playing_gets_to_the_end_and_stops(make_run, open_page: Opener) -> None:
    dom = open_page(build_report(make_run()), moment=35, act="document.getElementById('play').click()")
    assert shown(dom, "executed-note") == "control step 180"
    assert 'id="play" type="button" aria-pressed="false"' in dom


def test_pixels_on_the_canvas_are_those_of_the_frame_asked_for(make_run, open_page: Opener) -> None:
    from cascade.report import read_run

    folder = make_run()
    report = build_report(folder)
    run = read_run(folder)
    read = (
        "const d=id=>[...document.getElementById(id).getContext('2d').getImageData(0,0,128,128).data]"
        ".reduce((a,v,i)=>{if(i%4<3)a[i%4]+=v;return a},[0,0,0]).map(v=>Math.round(v/16384));"
        "document.getElementById('clock').textContent=d('imagined').concat(d('executed')).join(' ')"
    )
    for moment in (0, 45):
        means = [int(v) for v in shown(open_page(report, moment=moment, act=read), "clock").split()]
        imagined, executed = run.plans[0].frames[0 if moment == 0 else 16], run.executed[moment]
        for found, frame in ((means[:3], imagined), (means[3:], executed)):
            assert max(abs(f - w) for f, w in zip(found, frame.mean(axis=(0, 1)), strict=True)) < 2


@pytest.mark.parametrize("kind", ["killed", "rejected", "empty", "replanned"])
def test_incomplete_runs_open_without_an_error(make_run, open_page: Opener, tmp_path: Path, kind: str) -> None:
    if kind == "empty":
        folder = tmp_path / "empty"
        folder.mkdir()
        (folder / "run.json").write_text('{"schema_version": 1, "status": "running"}')
    else:
        options = {
            "killed": {"finish": False},
            "rejected": {"execute": False, "outcome": "rejected", "verdict": "Refused."},
            "replanned": {"plans": 3, "readout": False},
        }
        folder = make_run(**options[kind])
    dom = open_page(build_report(folder), size="390,844")
    if kind == "rejected":
        assert shown(dom, "executed-note") == "not executed"
        assert shown(dom, "imagined-note") == "frame 0 of 16"
    if kind == "replanned":
        assert shown(dom, "imagined-note").startswith("plan 0, frame")


def test_a_script_in_the_instruction_is_text(make_run, open_page: Opener) -> None:
    attack = (
        "<script>document.documentElement.dataset.owned='yes'</script><img src=x onerror=\"document.title='owned'\">"
    )
    dom = open_page(build_report(make_run(instruction=attack, verdict=attack)))
    assert "data-owned" not in dom[:400]
    assert "<title>owned" not in dom
    assert shown(dom, "verdict") == attack
