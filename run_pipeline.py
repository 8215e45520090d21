#!/usr/bin/env python3
"""Command line of the dark pipeline: flags and YAML in, exit code out."""

from __future__ import annotations

import argparse
import difflib
import gc
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from darkpipe.console import JobBar, error_console, logging_to, print_report
from darkpipe.errors import PipelineError, SettingsError, printable
from darkpipe.home import provide_home
from darkpipe.jobs.contract import sections_of
from darkpipe.settings import RunSettings, commented_yaml, nested, read_yaml
from darkpipe.version import __version__
from master_controller import MODES, MasterController, mode_named
from steps.flags import DETECTORS, FLAGS, Flag, number, numbers

INTERRUPTED = 130
SEARCHES = (10_000, 10, 2)  # for cycles, see gc.set_threshold: Python's own 700 looks through all of numba too often
EXIT_CODES = """exit codes:
  0 made, or up to date; 1 a step failed; 2 wrong flags or settings; 3 check_model: the model has drifted or is stale
  (modes that fit the model again say so as a warning, and end with 0);
  75 another run holds the lock; 130 interrupted"""

NUMBERS = re.compile(r"^[-+.\d][-+.\d,\seE]*$")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(message, do="See --help")


def build_parser() -> argparse.ArgumentParser:
    """The parser of FLAGS."""
    width = max(map(len, MODES))
    modes = "modes:\n" + "\n".join(f"  {name:<{width}}  {mode.help}" for name, mode in MODES.items())
    parser = _Parser(
        prog="darkpipe",
        description="From dark and bias frames to a dark model, synthetic darks and their errors.",
        epilog=f"{modes}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"darkpipe {__version__}")
    for flag in FLAGS:
        options: dict[str, Any] = {"dest": flag.name, "help": flag.help, "default": None}
        if flag.constant is not None:
            options |= {"action": "store_const", "const": flag.constant}
        else:
            options |= {"type": flag.parse, "choices": flag.choices, "metavar": flag.metavar}
        if flag.optional_value:
            options |= {"nargs": "?", "const": True}
        if flag.repeated:
            options |= {"action": "append", "metavar": "KEY=VALUE"}
        parser.add_argument(f"--{flag.name}", **options)
    return parser


def spelled(argv: Sequence[str]) -> Iterator[str]:
    """Arguments as argparse takes them: `_` for `-` in flags, and values that start with a minus bound to their flag.

    Raises
    ------
    SettingsError
        for an unknown flag, with the nearest known one.
    """
    flags = {f"--{flag.name}": flag for flag in FLAGS}
    waiting = list(argv)
    while waiting:
        text = waiting.pop(0)
        if not text.startswith("--"):
            yield text
            continue
        name, equals, value = text.partition("=")
        name = "--" + name[2:].replace("-", "_")
        if name not in (*flags, "--help", "--version"):
            close = difflib.get_close_matches(name, list(flags), n=1)
            raise SettingsError(f"unknown flag {text}", do=f"Did you mean {close[0]}?" if close else "See --help")
        flag = flags.get(name)
        if flag is None or equals or flag.parse not in (number, numbers):
            yield f"{name}{equals}{value}"
            continue
        values: list[str] = []
        while waiting and NUMBERS.match(waiting[0]) and (flag.parse is numbers or not values):
            values.append(waiting.pop(0))
        yield f"{name}={' '.join(values)}" if values else name


def flag_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the given flags stand for, as a nested dict."""
    dotted: dict[str, Any] = {}
    for flag in FLAGS:
        value = given[flag.name]
        if value is not None:
            dotted |= dict.fromkeys(flag.targets, dict(value) if flag.repeated else value)
    return nested(dotted)


def refuse_idle_flags(given: Mapping[str, Any], mode: str, controller: MasterController) -> None:
    """Refuse a flag that nothing in this mode looks at.

    Raises
    ------
    SettingsError
        naming the flag and the modes that it is for.
    """
    sections = _sections(mode, controller)
    for flag in FLAGS:
        if given[flag.name] is None or not flag.targets:
            continue
        heard = _hears(sections, flag)
        if not heard or (flag.modes and mode not in flag.modes):
            modes = flag.modes or tuple(name for name in MODES if _hears(_sections(name, controller), flag))
            advice = f"It is for: {', '.join(modes)}"
            if mode in flag.modes:
                advice = "It needs a camera: give --camera_address, or a section `camera` in the settings"
            raise SettingsError(f"--{flag.name} has no effect in mode '{mode}'", do=advice)


def _sections(mode: str, controller: MasterController) -> set[str]:
    """Sections of the settings that something in this mode looks at."""
    steps = [controller.steps[number] for number in controller.numbers(mode)]
    of_all = {DETECTORS} if MODES[mode].by_detector else set()
    return {*RunSettings.model_fields, *of_all, *(name for step in steps for name in sections_of(step))}


def _hears(sections: set[str], flag: Flag) -> bool:
    return any(target.partition(".")[0] in sections for target in flag.targets)


def run(given: Mapping[str, Any]) -> int:
    """Do what the flags say.

    Returns
    -------
    the exit code.

    Raises
    ------
    PipelineError
        for wrong settings, a held lock, an unknown product.
    """
    mode: str | None = given["mode"]
    if mode is not None:
        mode_named(mode)  # before the steps are imported
    elif not given["print_config"] and given["explain"] is None:
        raise SettingsError("what is to be done?", where="--mode", do=f"Modes: {', '.join(MODES)}")
    if given["bias_only"] and given["science_only"]:
        raise SettingsError("--bias_only and --science_only exclude each other", do="Leave both out to take everything")
    config = None if given["config"] is None else Path(os.path.abspath(given["config"]))
    controller = MasterController(read_yaml(config) if config else {}, flags=flag_settings(given), source=config)
    settings = controller.settings(mode)
    if mode is not None:
        refuse_idle_flags(given, mode, controller)
    if given["print_config"]:
        print(commented_yaml(settings), end="")
        return 0
    if mode is None or given["explain"] is not None:
        print(controller.explain(given["explain"]))
        return 0
    if mode_named(mode).question is not None:
        print("\n".join(map(printable, controller.answer(mode))))
        return 0
    console = error_console()
    bar = None if settings.quiet else JobBar(console)
    if bar is not None:
        controller.progress = bar
    logs = None if given["dry_run"] else controller.place(settings).logs
    with logging_to(logs, settings.log_level, quiet=settings.quiet, console=console, bar=bar):
        chosen = {name: given[name] for name in ("from_step", "until_step", "force")}
        report = controller.run(mode, **chosen, dry_run=bool(given["dry_run"]))
    if not settings.quiet or report.dry_run:
        print_report(report)
    return report.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    provide_home()
    try:
        given = vars(build_parser().parse_args(list(spelled(sys.argv[1:] if argv is None else argv))))
        return run(given)
    except PipelineError as error:
        print(f"darkpipe: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("darkpipe: interrupted; what was finished is kept, run again to go on", file=sys.stderr)
        return INTERRUPTED


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    gc.set_threshold(*SEARCHES)
    code = main()
    gc.freeze()  # or Python looks through all that was imported once more before it ends, which takes a second
    sys.exit(code)
