"""Headers and names of files by somebody who means harm, through a whole run: nothing of them is run, reaches the
terminal as a command, or is written to a place that the user did not name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import hostile_frames
import pytest
import yaml
from helpers import CELLS, PICTURES, Campaign, command, environment, make_campaign, settings_of, table
from hostile_frames import IMAGE, harmless

from master_controller import MasterController

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAY_OUT = Path("/tmp/darkpipe-way-out")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such names of files"),
]


class Ran(NamedTuple):
    """A run over hostile frames: its campaign, what it printed, and every path that was there before."""

    campaign: Campaign
    done: subprocess.CompletedProcess[bytes]
    before: set[str]


def everything(root: Path) -> set[str]:
    return {os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A full run with its report, as a process."""
    campaign = make_campaign(tmp_path_factory.mktemp("hostile"))
    frames = sorted(campaign.raw.glob("*.fits"))
    light = campaign.raw / "light.fits"
    shutil.copy(frames[-1], light)
    for frame in frames:
        hostile_frames.poison(frame)
    hostile_frames.copies(frames[-1])
    hostile_frames.poison(light, {"IMAGETYP": f"Light {IMAGE}\x1b[31m"})
    settings = {
        "workers": 2,
        "log_level": "DEBUG",
        "load_data": {"basepath": str(campaign.raw)},
        "output_dir": str(campaign.out),
        "evaluate_model": PICTURES,
        "report": {"write": True},
    }
    config = campaign.root / "hostile.yaml"
    config.write_text(yaml.safe_dump(settings))
    before = everything(campaign.root)
    words = command("--mode", "full", "--config", str(config))
    done = subprocess.run(words, env=environment(), cwd=campaign.root, capture_output=True, check=False, timeout=600)
    return Ran(campaign, done, before)


def test_the_frames_are_used(ran: Ran) -> None:
    assert ran.done.returncode == 0, ran.done.stderr.decode(errors="replace")
    index = table(ran.campaign.out / "index.ecsv")
    reasons = [str(row["reason"]) for row in index if row["status"] == "rejected"]
    assert len(reasons) == 8  # seven copies of one frame, and the light; a name that is no text is no row
    assert sum("duplicate" in reason for reason in reasons) == 4
    assert sum("Rename the file" in reason for reason in reasons) == 3  # line feeds and the like in their names


def test_nothing_passes_to_the_terminal(ran: Ran) -> None:
    printed = ran.done.stdout + ran.done.stderr
    assert b"forged line" in printed  # the names are told, on one line
    assert hostile_frames.FORGED not in printed
    assert harmless(printed)
    assert b"its name is no text in UTF-8" in printed


def test_nothing_passes_to_the_log(ran: Ran) -> None:
    logs = list((ran.campaign.out / "logs").iterdir())
    assert logs
    for log in logs:
        content = log.read_bytes()
        assert hostile_frames.FORGED not in content
        assert harmless(content), log


def test_nothing_is_written_elsewhere(ran: Ran) -> None:
    new = everything(ran.campaign.root) - ran.before
    assert new
    for path in new:
        assert os.path.realpath(path).startswith(f"{os.path.realpath(ran.campaign.out)}{os.sep}"), path
        assert path.isprintable()
    assert not list(WAY_OUT.parent.glob(f"{WAY_OUT.name}*"))
    assert not list(ran.campaign.root.rglob("pwned*"))


def test_the_terminal_is_not_written_to(ran: Ran, tmp_path: Path) -> None:
    # a terminal gets sequences of our own (the bar); those of the headers do not pass
    words = command("--mode", "full", "--output_dir", str(tmp_path / "out"), "--basepath", str(ran.campaign.raw))
    words += ["--until_step", "3"]
    shown = in_terminal(words)
    assert b"\x1b[" in shown
    assert b"forged line" in shown
    for sequence in (b"\x1b]", b"\x07", b"\x1b[2J", b"\x9b", "\u202e".encode(), b"\x0e", hostile_frames.FORGED):
        assert sequence not in shown.replace(b"\r\n", b"\n"), sequence


def in_terminal(words: list[str]) -> bytes:
    """What a process writes to a terminal."""
    import pty

    ours, theirs = pty.openpty()
    env = {**environment(), "TERM": "xterm-256color", "COLUMNS": "400"}
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert process.returncode == 0, shown
    return shown


def test_no_script_of_a_header_runs_in_the_report(ran: Ran) -> None:
    browsers = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -r requirements-dev.txt")
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install Debian's package chromium")
    report = ran.campaign.out / "evaluation" / "report.html"
    complaints: list[str] = []
    requests: list[str] = []
    with browsers.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(report.as_uri())
        found: dict[str, Any] = page.evaluate(
            "({title: document.title, hacked: window.hacked === 1, scripts: document.scripts.length,"
            " foreign: document.querySelectorAll('img[src=x], b, [onerror]').length, text: document.body.innerText})"
        )
        browser.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    assert not found["hacked"]
    assert "hacked" not in found["title"]
    assert (found["scripts"], found["foreign"]) == (1, 0)
    assert "onerror" in found["text"]  # as text it is there
    assert not set(found["text"]) & set("\x1b\x07\u202e\u2066\u2028")


def test_a_master_of_hostile_frames_and_its_pictures(ran: Ran, tmp_path: Path) -> None:
    frames = ran.campaign.frames_of(*CELLS[-1])[:3]
    for name, frame in zip(hostile_frames.NAMES[:3] + hostile_frames.NAMES[4:5], [*frames, frames[0]], strict=True):
        shutil.copy(frame, tmp_path / name)
    given = settings_of(ran.campaign, load_data={"basepath": tmp_path}, output_dir=tmp_path / "out")
    report = MasterController(given).run("characterize")
    report.raise_for_failure()
    for path in everything(tmp_path / "out"):
        assert path.isprintable()
