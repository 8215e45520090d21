"""What a model is used for, beside others in the same run: darks, light frames, local medians, masters held against it.

``python benchmarks/use.py [--quick]``. The model is one of 2048 x 2048 pixels on a local disk, with a bias line and
saturation, a pixel in three hundred hot. Times are the best of several runs, from the page cache, without fsync;
ccdproc subtracts bias and scaled dark and writes its frame, on one core as it comes, with errors and without. Light
frames go through the jobs of step 14, two at a time as the pipeline runs them, with error, bits and hot-pixel
thermometer. Every file is written where none stands, as in a first run (ext4 begins to write out a file that replaces
another there and then). The floor of a line is to read and to write the same bytes, or, in memory, to add three maps.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import best
from benchmarks.table import Line, markdown
from darkpipe import DarkModel
from darkpipe.files.evaluating import Held
from darkpipe.files.index import read_frames
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.masters import Cell, Master, ReferenceValues, master_frame, write_reference
from darkpipe.files.model_maps import (
    Description,
    FittedModel,
    read_description,
    read_maps,
    saturation_frame,
    write_description,
)
from darkpipe.files.products import Frame, write_frame
from darkpipe.files.synthetic import Wanted, write_synthetic
from darkpipe.jobs.contract import Job
from darkpipe.science.local_median import local_median
from darkpipe.science.models import MODELS, Reference
from darkpipe.science.saturation import Saturation
from steps import step1_load_data, step14_calibrate

SIDE, QUICK_SIDE = 2048, 1024
LIGHTS, QUICK_LIGHTS = 100, 8
GAIN, READ_NOISE_ADU, LEVEL_ADU = 1.0, 5.0, 1000.0
COLD_C, WARM_C, LIGHT_C, LIGHT_S = -20.0, 0.0, -8.0, 90.0
MEMORY_S, FILE_S, EVALUATE_S = 3e-3, 60e-3, 0.1
CCDPROC_RATIO, FLOOR_RATIO = 10.0, 3.0
ROUNDS, QUICK_ROUNDS = 15, 5
VALUES = ReferenceValues(1.0, READ_NOISE_ADU, GAIN, "setting", 65e3, 0.0, -10.0)

F4 = np.ndarray


def maps_of(side: int) -> dict[str, F4]:
    """A, gamma and B of a sensor, one pixel in three hundred hot."""
    rng, shape = np.random.default_rng(1), (side, side)
    a = np.exp(rng.normal(np.log(0.02), 0.4, shape))
    a[rng.random(shape) < 1 / 300] *= 100.0
    return {
        "A": a.astype(np.float32),
        "gamma": rng.normal(1.0, 0.01, shape).astype(np.float32),
        "B": rng.normal(0.1, 0.004, shape).astype(np.float32),
    }


def make_model(root: Path, side: int) -> ModelDir:
    """A model of two dimensions on disk, with the bias, saturation and reference values that belong to it."""
    shape, folder = (side, side), OutputDir(root, "").model
    for name, value in maps_of(side).items():
        write_frame(folder.maps("exp_2d")[name], Frame(value, 0.01 * np.abs(value), np.zeros(shape, np.uint16)))
    covariance = np.zeros((6, *shape), np.float32)
    covariance[[0, 3, 5]] = np.array([1e-6, 1e-4, 1e-6], np.float32)[:, None, None]
    write_frame(folder.covariance("exp_2d"), Frame(covariance))
    level = np.full(shape, np.nan, np.float32)
    write_frame(
        folder.saturation_map, saturation_frame(Saturation(level.ravel(), np.zeros(side**2, np.uint8), 6e4), shape)
    )
    bias = np.random.default_rng(2).normal(LEVEL_ADU, 8.0, shape).astype(np.float32)
    extra = {"B1": np.full(shape, 0.1, np.float32), "COVAR": np.full((3, *shape), 0.01, np.float32)}
    write_frame(folder.bias_line, Frame(bias, header=[("T_REF", -10.0, "[deg C]")], extra=extra))
    hot = (maps_of(side)["A"] > 0.3).astype(np.uint16)
    write_frame(folder.hot_pixel_mask, Frame(hot.astype(np.uint8), dq=hot, unit=""))
    fitted = FittedModel("exp_2d", "", (COLD_C, WARM_C), (10.0, 300.0), Reference(COLD_C), 0.001, 1.0, 20)
    write_description(
        folder.description,
        Description("exp_2d", "alone", shape, "", GAIN, READ_NOISE_ADU, 1.0, 0.0, True, (fitted,)),
    )
    write_reference(
        OutputDir(root, "").reference, ReferenceValues(1.0, READ_NOISE_ADU, GAIN, "setting", 65e3, 0.0, -10.0)
    )
    return folder


def synthesis(folder: ModelDir, rounds: int) -> list[Line]:
    """One dark in memory, and from files to a file."""
    description = read_description(folder.description)
    model, maps = DarkModel.read(folder.path), read_maps(folder, description.models[0])
    out, (a, gamma, b) = np.empty(model.shape, np.float32), maps.parameters
    doubles = [plane.astype(np.float64) for plane in (a, gamma, b)]
    numpy_s = best(lambda: doubles[0] * LIGHT_S ** doubles[1] * np.exp(doubles[2] * (LIGHT_C - COLD_C)), 3)
    floor = best(lambda: np.add(np.add(a, gamma, out=out), b, out=out), rounds)
    alone = best(lambda: model.signal(LIGHT_C, LIGHT_S, out), rounds)
    whole = best(lambda: model.synthesize(LIGHT_C, LIGHT_S), rounds)
    path = folder.path / "dark.fits"
    wanted = Wanted("exp_2d", LIGHT_C, LIGHT_S)
    to_file = best(lambda: write_synthetic(path, folder, description, wanted), rounds, made=lambda: [path])
    inputs = [
        *folder.maps("exp_2d").values(),
        folder.covariance("exp_2d"),
        folder.hot_pixel_mask,
        folder.saturation_map,
    ]
    written, copy = path.stat().st_size, folder.path / "copy"
    copied = best(lambda: copy_bytes(inputs, written, copy), rounds, made=lambda: [copy])
    size = f"{model.shape[0]} x {model.shape[1]}"
    small = model.shape[0] < SIDE
    return [
        Line(f"one dark {size} in memory, image alone", alone, {"numpy": numpy_s}, floor, "< 3 ms",
             None if small else alone < MEMORY_S),
        Line(f"one dark {size} in memory, with error and bits", whole, {}, None, "", None),
        Line(f"one dark {size}, from files to a file", to_file, {}, copied, "< 60 ms without fsync",
             None if small else to_file < FILE_S),
    ]  # fmt: skip


def copy_bytes(inputs: Sequence[Path], written: int, target: Path) -> None:
    """Read files, and write so many bytes."""
    for path in inputs:
        path.read_bytes()
    target.write_bytes(bytes(written))


def make_lights(folder: Path, model: DarkModel, number: int) -> None:
    """Raw frames of a sky, as a camera writes them."""
    rng = np.random.default_rng(3)
    dark = model.synthesize(LIGHT_C, LIGHT_S, include_bias=True).science + 300.0
    folder.mkdir()
    for k in range(number):
        noise = (
            np.roll(rng.normal(0.0, 20.0, dark.shape[1] * 3), k)[: dark.shape[1]]
            + rng.normal(0, 5, dark.shape[0])[:, None]
        )
        hdu = fits.PrimaryHDU(np.clip(np.rint(dark + noise), 0, 65535).astype(np.uint16))
        cards = {"IMAGETYP": "Light Frame", "EXPTIME": LIGHT_S, "CCD-TEMP": LIGHT_C, "SET-TEMP": LIGHT_C}
        hdu.header.update(cards | {"DATE-OBS": f"2026-01-01T{k // 60:02d}:{k % 60:02d}:00"})
        hdu.writeto(folder / f"light_{k:03d}.fits")


def run(jobs: Sequence[Job], workers: int = 2) -> None:
    """Run jobs as the pipeline does, in threads."""
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(job.function, job.inputs, job.outputs, **job.params) for job in jobs]:
            done.result()


def calibration(root: Path, folder: ModelDir, number: int) -> list[Line]:
    """Light frames through the jobs of step 14, and through ccdproc."""
    lights, out = root / "lights", OutputDir(root / "calibrated", "")
    make_lights(lights, DarkModel.read(folder.path), number)
    for batch in step1_load_data.plan(
        out, step1_load_data.Settings(basepath=lights, kinds=list(step14_calibrate.KINDS))
    ):
        run(batch)
    place = next(iter(out.campaigns()), out)
    description = read_description(folder.description)
    (name,) = {frame.configuration for frame in read_frames(place.index, place.campaign or "", step14_calibrate.KINDS)}
    write_description(folder.description, replace(description, configuration=name))
    plan = step14_calibrate.plan(place, step14_calibrate.Settings(model_dir=folder.path))
    run(next(plan))
    frames = next(plan)
    run(frames[:1])
    start = time.perf_counter()
    run(frames)
    taken = time.perf_counter() - start
    written = sum(path.stat().st_size for job in frames for path in job.outputs)
    (copies := root / "copies").mkdir()
    start = time.perf_counter()
    for path in lights.iterdir():
        copy_bytes([path], written // number, copies / path.name)
    floor = time.perf_counter() - start
    shutil.rmtree(copies)
    peers, passed = {}, taken < FLOOR_RATIO * floor
    if importlib.util.find_spec("ccdproc") is not None:
        few = sorted(lights.iterdir())[: max(2, number // 10)]
        for name, errors in (("ccdproc with errors", True), ("ccdproc, image alone", False)):
            peers[name] = ccdproc_s(few, folder, root / name, errors=errors) * number / len(few)
        passed = passed and min(peers.values()) > CCDPROC_RATIO * taken
    work = f"calibrate {number} light frames {description.shape[0]} x {description.shape[1]}"
    target = f"{CCDPROC_RATIO:g} x ccdproc, {FLOOR_RATIO:g} x reading and writing"
    return [Line(work, taken, peers, floor, target, passed, "with error, bits, mask and thermometer")]


def ccdproc_s(lights: Sequence[Path], folder: ModelDir, target: Path, *, errors: bool) -> float:
    """Seconds of ccdproc for some frames: bias off, scaled dark off, written into a folder; with errors: of frame, bias
    and dark."""
    import ccdproc
    from astropy import units as u
    from astropy.nddata import CCDData, StdDevUncertainty

    with fits.open(folder.bias_line) as hdus:
        bias = CCDData(hdus["SCI"].data.astype(np.float64), unit="adu")
    dark = CCDData(DarkModel.read(folder.path).signal(LIGHT_C, 300.0).astype(np.float64), unit="adu")
    if errors:
        bias.uncertainty = StdDevUncertainty(np.full(bias.shape, 0.1))
        dark.uncertainty = StdDevUncertainty(0.01 * dark.data)
    target.mkdir()
    times = {"dark_exposure": 300.0 * u.s, "data_exposure": LIGHT_S * u.s}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        for path in lights:
            light = CCDData.read(path, unit="adu")
            if errors:
                light = ccdproc.create_deviation(
                    light, gain=GAIN * u.electron / u.adu, readnoise=READ_NOISE_ADU * GAIN * u.electron
                )
            above = ccdproc.subtract_bias(light, bias)
            ccdproc.subtract_dark(above, dark, scale=True, **times).write(target / path.name)
        return time.perf_counter() - start


def medians(side: int, rounds: int) -> list[Line]:
    """The median of the 5 x 5 box around every pixel."""
    from scipy.ndimage import median_filter

    image = np.random.default_rng(4).normal(LEVEL_ADU, 30.0, (side, side)).astype(np.float32)
    same = bool(np.array_equal(local_median(image), median_filter(image, 5)))
    peers = {"scipy": best(lambda: median_filter(image, 5), 1)}
    taken = best(lambda: local_median(image), rounds)
    return [Line(f"5 x 5 local median, {side} x {side}", taken, peers, None, "the numbers of scipy", same)]


def evaluation(root: Path, folder: ModelDir, rounds: int) -> list[Line]:
    """One master held against the model: all figures of its errors, and the reduced maps that pictures are drawn of."""
    description = read_description(folder.description)
    shape, path = description.shape, root / "master.fits"
    rng, cell = np.random.default_rng(5), Cell("cell", LIGHT_C, 0.1, LIGHT_S, 20, "bias")
    master = Master.empty(shape)
    signal = DarkModel.read(folder.path).signal(LIGHT_C, LIGHT_S)
    master.science[:] = signal + rng.normal(0.0, 2.0, shape)
    master.error[:], master.dq[:], master.count[:], master.bias_error[:] = 2.0, 0, 20, 0.5
    master.rejected[:], master.chi2[:], master.scatter[:] = 0, 1.0, 19.0
    write_frame(path, master_frame(master, [("CELL", "cell", "")], ["a"], frames=20, bias=True))
    held = Held(folder, description, "exp_2d", cell, VALUES, path)
    taken = best(lambda: held.compare(512).errors.summary(), rounds)
    inputs = [*folder.maps("exp_2d").values(), folder.covariance("exp_2d"), folder.hot_pixel_mask, path]
    floor = best(lambda: copy_bytes(inputs, 0, root / "copy"), rounds)
    judged = None if shape[0] < SIDE else taken < EVALUATE_S
    return [
        Line(
            f"a master {shape[0]} x {shape[1]} held against the model, all figures", taken, {}, floor, "< 0.1 s", judged
        )
    ]


def lines(quick: bool) -> list[Line]:
    """The lines of the table of speed that are about use."""
    side, rounds = (QUICK_SIDE, QUICK_ROUNDS) if quick else (SIDE, ROUNDS)
    assert set(maps_of(8)) == {p.name for p in MODELS["exp_2d"].parameters}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = make_model(root / "model", side)
        made = synthesis(folder, rounds)
        made += evaluation(root, folder, rounds)
        made += medians(side, max(rounds // 3, 2))
        return made + calibration(root, folder, QUICK_LIGHTS if quick else LIGHTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller frames and fewer of them: shown, hardly judged")
    logging.getLogger("darkpipe").setLevel(logging.ERROR)
    made = lines(parser.parse_args(arguments).quick)
    print(markdown(made))
    return 1 if any(line.passed is False for line in made) else 0


if __name__ == "__main__":
    sys.exit(main())
