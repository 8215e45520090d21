#!/usr/bin/env python3
"""Command line of the dark pipeline: flags and YAML in, exit code out."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from darkpipe.console import JobBar, error_console, logging_to, print_report
from darkpipe.errors import PipelineError, SettingsError
from darkpipe.jobs.contract import sections_of
from darkpipe.settings import RunSettings, commented_yaml, nested, read_yaml
from darkpipe.version import __version__
from master_controller import MODES, MasterController, mode_named

INTERRUPTED = 130
EXIT_CODES = """exit codes:
  0 made, or up to date; 1 a step failed; 2 wrong flags or settings; 3 check_model: the model has drifted or is stale
  (modes that fit the model again say so as a warning, and end with 0);
  75 another run holds the lock; 130 interrupted"""

NUMBERS = re.compile(r"^[-+.\d][-+.\d,\seE]*$")


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is no finite number")
    return value


def numbers(text: str) -> list[float]:
    """Numbers with spaces or commas between them."""
    found = [number(part) for part in text.replace(",", " ").split()]
    if not found:
        raise argparse.ArgumentTypeError("there are no numbers")
    return found


def words(text: str) -> list[str]:
    """Words with spaces or commas between them."""
    return text.replace(",", " ").split()


def assignment(text: str) -> tuple[str, str]:
    """KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return key.strip(), value.strip()


@dataclass(frozen=True)
class Flag:
    """A flag and where it goes.

    targets : dotted places in the settings; none: it is about the run itself.
    constant : the value that the bare flag stands for; None: it takes a value.
    modes : those in which it has a meaning; empty: all that run a step which it is for.
    """

    name: str
    help: str
    targets: tuple[str, ...] = ()
    parse: Callable[[str], Any] = str
    choices: tuple[str, ...] | None = None
    constant: Any = None
    modes: tuple[str, ...] = ()
    optional_value: bool = False
    repeated: bool = False
    metavar: str | None = None


def _in(*sections: str, name: str) -> tuple[str, ...]:
    """The setting of this name in several sections."""
    return tuple(f"{section}.{name}" for section in sections)


CAMERA = ("acquire", "full")
CELLS = ("synthetic_only", "synthetic_2d")
SINGLE = ("synthetic_2d_single",)
NOISE_MAP_DARK = "synthetic_noise_map_dark"  # a mode, and the section of its step
EM_DARKS = ("traditional_dark", NOISE_MAP_DARK)
EM_CCD = ("fit_noise_maps", *EM_DARKS)
CALIBRATE = ("calibrate",)
CHARACTERIZE = ("characterize",)
PLAN = "plan_campaign"  # a mode, and the section of its step
LIBRARY = "export_library"  # likewise
NEW_FRAMES = ("evaluation_only", "evaluate_2d_model", "check_model")
GIVEN_MODEL = (PLAN, *CELLS, *SINGLE, *NEW_FRAMES, NOISE_MAP_DARK, *CALIBRATE, LIBRARY)
SYNTHETIC = "generate_synthetic_darks"
GRID, ONE, TAKEN = (*CELLS, PLAN, LIBRARY), (*SINGLE, PLAN), (*CAMERA, PLAN)
TEMPERATURES, EXPOSURES = (_in(SYNTHETIC, PLAN, LIBRARY, name=name) for name in ("temperatures_c", "exposures_s"))
LIKE, LIKES = _in("calibrate", LIBRARY, name="like"), (*CALIBRATE, LIBRARY)
MODELS = ("auto", "exp_1d", "exp_t", "exp_2d", "two_component", "two_component_glow", "exp_2d_glow")

FLAGS = (
    Flag("mode", "what to do; see below"),
    Flag("config", "settings as YAML; flags win over it", parse=Path, metavar="FILE"),
    Flag(
        "basepath", "folder of the raw frames", ("load_data.basepath", "load_em_frames.basepath"), Path, metavar="DIR"
    ),
    Flag("output_dir", "folder of everything that is made", ("output_dir",), Path, metavar="DIR"),
    Flag(
        "model_dir",
        "an existing model: its folder, or the output directory around it",
        _in(SYNTHETIC, "evaluate_model", "check_model", NOISE_MAP_DARK, "calibrate", PLAN, LIBRARY, name="model_dir"),
        Path,
        modes=GIVEN_MODEL,
        metavar="DIR",
    ),
    Flag("temps", 'temperatures in °C, "15.0 20.0"', TEMPERATURES, numbers, modes=GRID, metavar="LIST"),
    Flag("exptimes", "exposures in s", EXPOSURES, numbers, modes=GRID, metavar="LIST"),
    Flag("format", "pixels of a library of master darks", (f"{LIBRARY}.format",), choices=("float32", "uint16")),
    Flag("without_bias", "master darks without their bias", (f"{LIBRARY}.include_bias",), constant=False),
    Flag(
        "temp_single", "temperature in °C", _in(SYNTHETIC, PLAN, name="temp_single_c"), number, modes=ONE, metavar="T"
    ),
    Flag(
        "exptime_single",
        "exposure in s",
        _in(SYNTHETIC, *EM_DARKS, PLAN, name="exptime_single_s"),
        number,
        modes=(*SINGLE, *EM_DARKS, PLAN),
        metavar="S",
    ),
    Flag("em_gain", "EM gain", _in(*EM_DARKS, name="em_gain"), number, modes=EM_DARKS, metavar="G"),
    Flag(
        "full_frame",
        "darks of an EM-CCD as full frames, not of the image area",
        _in(*EM_DARKS, name="full_frame"),
        constant=True,
        modes=EM_DARKS,
    ),
    Flag(
        "output",
        "file of the single synthetic dark",
        (f"{SYNTHETIC}.output", f"{NOISE_MAP_DARK}.output", "calibrate.output"),
        Path,
        modes=(*SINGLE, NOISE_MAP_DARK, *CALIBRATE),
        metavar="FILE",
    ),
    Flag(
        "include_bias",
        "synthetic darks as a camera gives them",
        (f"{SYNTHETIC}.include_bias", "calibrate.include_bias"),
        constant=True,
    ),
    Flag(
        "dtype",
        "pixels of synthetic darks",
        (f"{SYNTHETIC}.dtype", "calibrate.dtype"),
        choices=("float32", "uint16"),
    ),
    Flag("like", "the one dark for this frame; a library with its header", LIKE, Path, modes=LIKES, metavar="FILE"),
    Flag(
        "temperature",
        "what says the temperature of a light frame: its header, or its hot pixels",
        ("calibrate.temperature",),
        choices=("header", "thermometer"),
        modes=CALIBRATE,
    ),
    Flag("kinds", "kinds of frames that are taken", ("load_data.kinds",), words, modes=(*CALIBRATE, *CHARACTERIZE)),
    Flag("combine", "how the master is made", ("characterize.combine",), choices=("median", "average")),
    Flag("expect_shape", "size of every frame", ("characterize.expect_shape",), metavar="ROWSxCOLS"),
    Flag("expect_exposure", "exposure of every frame", ("characterize.expect_exposure_s",), number, metavar="S"),
    Flag("expect_filter", "filter of every frame", ("characterize.expect_filter",), metavar="NAME"),
    Flag("stretch", "shades of the pictures", ("characterize.stretch",), choices=("log", "linear")),
    Flag("black_point", "value drawn black", ("characterize.black_point",), number, metavar="V"),
    Flag("white_point", "value drawn white", ("characterize.white_point",), number, metavar="V"),
    Flag("residual_points", "the two, less the master", ("characterize.residual_points",), numbers, metavar="LIST"),
    Flag("window", "part that is drawn by itself", ("characterize.window",), metavar="ROW0:ROW1,COL0:COL1"),
    Flag("residual", "also say whether the dark fits the frame", ("calibrate.residual",), constant=True),
    Flag("repair", "replace flagged pixels by their neighbours", ("calibrate.repair",), constant=True),
    Flag(
        "model",
        "the model that synthesises; auto: the one with the smallest held-out error",
        _in("fit_dark_model", SYNTHETIC, "evaluate_model", "check_model", "calibrate", PLAN, LIBRARY, name="model"),
        choices=MODELS,
    ),
    Flag("bias_model", "a bias made elsewhere (b0 and b1 maps)", ("subtract_bias.bias_model",), Path, metavar="PATH"),
    Flag(
        "camera_address",
        "ASCOM Alpaca server of the camera",
        ("camera.address",),
        modes=CAMERA,
        metavar="HOST:PORT",
    ),
    Flag("bias_only", "take bias frames alone", ("dark_capture.select",), constant="bias", modes=CAMERA),
    Flag(
        "science_only",
        "take darks of the science exposure alone",
        ("dark_capture.select",),
        constant="science",
        modes=CAMERA,
    ),
    Flag(
        "num_darks",
        "frames of each exposure",
        ("dark_capture.num_darks", f"{PLAN}.frames"),
        int,
        modes=TAKEN,
        metavar="N",
    ),
    Flag(
        "science_exposure_time",
        "exposure of the science frames in s",
        ("dark_capture.science_exposure_time",),
        number,
        modes=TAKEN,
        metavar="S",
    ),
    Flag("session", "name of a session of frames; a new one begins another", ("dark_capture.session",), modes=CAMERA),
    Flag("from_step", "leave out the steps before this one", parse=int, metavar="N"),
    Flag("until_step", "leave out the steps after this one", parse=int, metavar="N"),
    Flag("force", "run this step (all steps) though nothing changed", parse=int, optional_value=True, metavar="N"),
    Flag("dry_run", "say what would be run, and why", constant=True),
    Flag("explain", "say where a product comes from", parse=Path, metavar="FILE"),
    Flag("print_config", "print all settings as YAML with comments", constant=True),
    Flag(
        "select",
        "take only configurations (characterize: frames) with this value, gain=100",
        ("select", "characterize.select"),
        assignment,
        modes=tuple(name for name in MODES if name not in EM_CCD),
        repeated=True,
    ),
    Flag("engine", "where jobs run", ("engine",), choices=("threads", "processes", "dask")),
    Flag("workers", "jobs at a time", ("workers",), int, metavar="N"),
    Flag("log_level", "what is logged", ("log_level",), choices=("DEBUG", "INFO", "WARNING", "ERROR")),
    Flag("debug", "the same as --log_level DEBUG", ("log_level",), constant="DEBUG"),
    Flag("quiet", "print warnings and errors only", ("quiet",), constant=True),
)


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
    steps = [controller.steps[number] for number in controller.numbers(mode)]
    sections = {*RunSettings.model_fields, *(name for step in steps for name in sections_of(step))}
    for flag in FLAGS:
        if given[flag.name] is None or not flag.targets:
            continue
        heard = any(target.partition(".")[0] in sections for target in flag.targets)
        if not heard or (flag.modes and mode not in flag.modes):
            advice = f"It is for: {', '.join(flag.modes)}" if flag.modes else None
            if mode in flag.modes:
                advice = "It needs a camera: give --camera_address, or a section `camera` in the settings"
            raise SettingsError(f"--{flag.name} has no effect in mode '{mode}'", do=advice)


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
        print("\n".join(controller.answer(mode)))
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
    sys.exit(main())
