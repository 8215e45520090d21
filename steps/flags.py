"""Flags of the command line as data: where each goes in the settings, and in which modes it has a meaning."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from steps.modes import MODES
from steps.settings.model_names import ModelName


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
DETECTORS = "detectors"  # the section of its step, which runs before the others of a mode
BY_DETECTOR = tuple(name for name, mode in MODES.items() if mode.by_detector)
MODELS = get_args(ModelName)

FLAGS = (
    Flag("mode", "what to do; see below"),
    Flag("config", "settings as YAML; flags win over it", parse=Path, metavar="FILE"),
    Flag(
        "basepath",
        "folder of the raw frames (calibrate: light frames)",
        ("load_data.basepath", "load_em_frames.basepath"),
        Path,
        metavar="DIR",
    ),
    Flag(
        "detectors",
        "a focal plane: a model for each folder below --basepath, or for each image (HDU) of its files",
        (f"{DETECTORS}.by",),
        choices=("folders", "hdus"),
        modes=BY_DETECTOR,
    ),
    Flag(
        "detector_names", "of these detectors alone", (f"{DETECTORS}.names",), words, modes=BY_DETECTOR, metavar="LIST"
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
    Flag("format", "export_library: pixels of the master darks", (f"{LIBRARY}.format",), choices=("float32", "uint16")),
    Flag(
        "without_bias", "export_library: master darks without their bias", (f"{LIBRARY}.include_bias",), constant=False
    ),
    Flag(
        "temp_single",
        "temperature of the single dark in °C",
        _in(SYNTHETIC, PLAN, name="temp_single_c"),
        number,
        modes=ONE,
        metavar="T",
    ),
    Flag(
        "exptime_single",
        "exposure of the single dark in s",
        _in(SYNTHETIC, *EM_DARKS, PLAN, name="exptime_single_s"),
        number,
        modes=(*SINGLE, *EM_DARKS, PLAN),
        metavar="S",
    ),
    Flag("em_gain", "EM gain of the dark", _in(*EM_DARKS, name="em_gain"), number, modes=EM_DARKS, metavar="G"),
    Flag(
        "full_frame",
        "darks of an EM-CCD as full frames, not of the image area",
        _in(*EM_DARKS, name="full_frame"),
        constant=True,
        modes=EM_DARKS,
    ),
    Flag(
        "output",
        "where the single dark goes",
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
    Flag(
        "like",
        "calibrate: the one dark for this frame; export_library: header of this one",
        LIKE,
        Path,
        modes=LIKES,
        metavar="FILE",
    ),
    Flag(
        "temperature",
        "calibrate: what says the temperature of a light frame: its header, or its hot pixels",
        ("calibrate.temperature",),
        choices=("header", "thermometer"),
        modes=CALIBRATE,
    ),
    Flag(
        "kinds",
        "calibrate, characterize: kinds of frames that are taken",
        ("load_data.kinds",),
        words,
        modes=(*CALIBRATE, *CHARACTERIZE),
        metavar="LIST",
    ),
    Flag("combine", "characterize: how the master is made", ("characterize.combine",), choices=("median", "average")),
    Flag("expect_shape", "characterize: size of every frame", ("characterize.expect_shape",), metavar="ROWSxCOLS"),
    Flag(
        "expect_exposure",
        "characterize: exposure of every frame",
        ("characterize.expect_exposure_s",),
        number,
        metavar="S",
    ),
    Flag("expect_filter", "characterize: filter of every frame", ("characterize.expect_filter",), metavar="NAME"),
    Flag("stretch", "characterize: shades of the pictures", ("characterize.stretch",), choices=("log", "linear")),
    Flag("black_point", "characterize: value drawn black", ("characterize.black_point",), number, metavar="V"),
    Flag("white_point", "characterize: value drawn white", ("characterize.white_point",), number, metavar="V"),
    Flag(
        "residual_points",
        "characterize: black and white point of a frame less the master",
        ("characterize.residual_points",),
        numbers,
        metavar="LIST",
    ),
    Flag(
        "window", "characterize: part that is drawn by itself", ("characterize.window",), metavar="ROW0:ROW1,COL0:COL1"
    ),
    Flag("residual", "calibrate: also say whether the dark fits the frame", ("calibrate.residual",), constant=True),
    Flag("repair", "calibrate: replace flagged pixels by their neighbours", ("calibrate.repair",), constant=True),
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
    Flag(
        "session",
        "name of a session of frames; a new one begins another",
        ("dark_capture.session",),
        modes=CAMERA,
        metavar="NAME",
    ),
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
