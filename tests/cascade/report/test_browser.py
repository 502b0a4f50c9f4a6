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


def test_keys_slider_strip_and_curves_move_the_scrubber(make_run, open_page: Opener) -> None:
    steps = {
        "three to the right": (";".join([pressed("ArrowRight")] * 3), "control step 12"),
        "one back": (pressed("ArrowLeft"), "control step 8"),
        "home": (pressed("Home"), "control step 0"),
        "one imagined frame on": (pressed("ArrowRight", shift=True), "frame 1 of 16"),
        "one imagined frame back": (pressed("ArrowLeft", shift=True), "frame 0 of 16"),
        "end": (pressed("End"), "frame 16 of 16"),
        "slider": (
            "(s=>{s.value=15;s.dispatchEvent(new Event('input',{bubbles:true}))})(document.getElementById('scrub'))",
            "control step 60",
        ),
        "curve": (
            "(c=>{const b=c.getBoundingClientRect(),m=c.dataset.map.split(' ').map(Number),"
            "x=b.left+(m[0]+120*m[1])*b.width/c.viewBox.baseVal.width;"
            "c.dispatchEvent(new MouseEvent('click',{clientX:x,clientY:b.top+30,bubbles:true}))})"
            "(document.querySelector('.curve'))",
            "control step 120",
        ),
        "strip": ("document.querySelector('.strip button').click()", "frame 0 of 16"),
    }
    said = "document.getElementById('{}-note').textContent"
    note = f"out.push({said.format('imagined')}+', '+{said.format('executed')})"
    act = "const out=[];" + ";".join(f"{do};{note}" for do, _ in steps.values())
    dom = open_page(build_report(make_run()), act=f"{act};document.getElementById('clock').textContent=out.join('|')")
    for (name, (_, expected)), found in zip(steps.items(), shown(dom, "clock").split("|"), strict=True):
        assert expected in found.split(", "), name


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
    means = [int(v) for v in shown(open_page(report, moment=45, act=read), "clock").split()]
    for found, frame in ((means[:3], run.plans[0].frames[16]), (means[3:], run.executed[45])):
        assert max(abs(f - w) for f, w in zip(found, frame.mean(axis=(0, 1)), strict=True)) < 2


@pytest.mark.parametrize("kind", ["rejected", "empty", "replanned"])
def test_incomplete_runs_open_without_an_error(make_run, open_page: Opener, tmp_path: Path, kind: str) -> None:
    if kind == "empty":
        folder = tmp_path / "empty"
        folder.mkdir()
        (folder / "run.json").write_text('{"schema_version": 1, "status": "running"}')
    else:
        options = {
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


def test_t_shows_and_hides_the_tracks(make_run, open_page: Opener) -> None:
    painted = (
        "const n=()=>{const c=document.getElementById('tracks');"
        "return c.getContext('2d').getImageData(0,0,c.width,c.height).data.filter((v,i)=>i%4===3&&v).length};"
        "const a=n();" + pressed("t") + ";const b=n();" + pressed("t") + ";const c=n();"
        "document.getElementById('clock').textContent=[a,b,c].join(' ')"
    )
    shown_at_first, hidden, again = map(int, shown(open_page(build_report(make_run()), act=painted), "clock").split())
    assert shown_at_first > 100
    assert hidden == 0
    assert again == shown_at_first


def test_one_slider_moves_two_runs(make_run, open_page: Opener) -> None:
    from cascade.report.compare import build_comparison

    first, second = make_run(), make_run(name="20261120-130000-pick-avdc", plans=2)
    act = (
        pressed("End") + ";const end=document.getElementById('executed-A-note').textContent;" + pressed("Home") + ";"
        "document.getElementById('clock').textContent=end+'|'+document.getElementById('executed-B-note').textContent"
    )
    dom = open_page(build_comparison(first, second), act=act)
    assert shown(dom, "clock") == "step 180|step 0"
