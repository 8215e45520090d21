"""`python -m hardware.simulator`, as a program."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from raw_alpaca import RawCamera

import hardware
from hardware.simulator.__main__ import arguments, main

PROJECT = Path(hardware.__file__).resolve().parents[1]
Program = subprocess.Popen[str]


@pytest.fixture
def run() -> Iterator[Callable[..., tuple[Program, str]]]:
    """Start the program; it and the address it says."""
    started: list[Program] = []

    def start(*flags: str) -> tuple[Program, str]:
        command = [sys.executable, "-m", "hardware.simulator", "--port", "0", "--rows", "20", "--cols", "30", *flags]
        program = subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        started.append(program)
        assert program.stdout is not None
        line = program.stdout.readline()
        found = re.search(r"listens at (\S+):", line)
        assert found is not None, line
        return program, found[1]

    yield start
    for program in started:
        if program.poll() is None:
            program.kill()
        program.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_it_runs_until_a_signal(run: Callable[..., tuple[Program, str]], name: str) -> None:
    program, address = run("--no-discovery")
    with RawCamera(address) as camera:
        camera.connect()
        assert (camera.value("cameraxsize"), camera.value("cameraysize")) == (30, 20)
        camera.write("startexposure", Duration=1000, Light="false")
        program.send_signal(signal.Signals[name])
        output, errors = program.communicate(timeout=20)
    assert program.returncode == 0
    assert output == errors == ""


def test_flags_reach_the_camera(run: Callable[..., tuple[Program, str]]) -> None:
    flags = ["--no-discovery", "--no-cooler", "--color", "--ambient", "-7.5", "--time-scale", "30"]
    _, address = run(*flags, "--fault", "drop=2,member=gain,times=1", "--fault", "driver_error,member=offset")
    with RawCamera(address) as camera:
        camera.connect()
        assert camera.value("ccdtemperature") == -7.5
        assert camera.value("cansetccdtemperature") is False
        assert camera.value("sensortype") == 2
        assert camera.value("gain") == 100
        with pytest.raises(requests.exceptions.ConnectionError):
            camera.get("gain")
        assert camera.value("gain") == 100
        assert camera.error("offset") == 0x500
    told = requests.get(f"http://{address}/management/v1/description", timeout=5).json()["Value"]
    assert told["TimeScale"] == 30


def test_discovery_and_a_busy_port(run: Callable[..., tuple[Program, str]]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        program, address = run("--discovery-port", str(port))
        assert requests.get(f"http://{address}/management/apiversions", timeout=5).ok
        program.terminate()
        assert "cannot answer discovery" in program.communicate(timeout=20)[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--fault", "nonsense"], "there is no fault 'nonsense'"),
        (["--time-scale", "0"], "a clock cannot run 0.0 times as fast"),
        (["--rows", "0"], "no sensor has rows = 0"),
        (["--port", "70000"], "there is no port 70000"),
        (["--host", "no.such.host.invalid", "--port", "0"], "cannot listen"),
    ],
)
def test_what_cannot_be_is_said(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert main(flags) == 1
    finally:
        for name, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(name, handler)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--port", "x"], ["--ambient", "nan"], ["--nonsense"]])
def test_flags_that_cannot_be_read(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments().parse_args(flags)
    assert ended.value.code == 2


def test_help_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments().parse_args(["--help"])
    told = capsys.readouterr().out
    assert "stale_ready" in told
    assert "lost_answer" in told
