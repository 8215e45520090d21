"""The summary of the sensor against simulated truth, and that of the real STL-1001E set.

``python benchmarks/sensor_summary.py`` makes campaigns with the tests' generator (both laws) and with the simulated
camera's sensor, runs the pipeline, and prints truth, value, error and pull of every quantity whose truth is known;
with several ``--seeds`` also the root mean square of the pulls. Exit code 1 if a pull is beyond 4, or the spread of
the maps' pulls off by more than 5 %, where model and law are the same. ``--real`` prints the summary of the real set.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import simulated

from benchmarks.common import real_data, robust_spread, run_pipeline
from hardware.simulator.sensor import Sensor, SensorSpec

Image = NDArray[np.float64]
BOLTZMANN_EV_K, ZERO_C_K = 8.617333262e-5, 273.15
BITS = {"HOT": 1, "WARM": 2, "DEAD": 4, "SATURATED": 8, "UNSTABLE": 16, "NONLINEAR": 32, "FAILED": 256, "OUTLIER": 4096}
TEMPERATURES_C, EXPOSURES_S = (-20.0, -15.0, -10.0, -5.0, 0.0), (10.0, 30.0, 60.0, 150.0, 300.0)
LARGEST_PULL, MAP_SPREAD = 4.0, 0.05


@dataclass(frozen=True)
class Truth:
    """What a simulated sensor is: dark current and bias of every pixel at a temperature, gain, read noise."""

    current_adu_s: Callable[[float], Image]
    bias_adu: Callable[[float], Image]
    gain_e_per_adu: float
    read_noise_e: float
    model: str  # that obeys the same law; '': none does

    def growth_per_k(self, temperature_c: float, pixels: NDArray[np.bool_] | None = None) -> Any:
        """d ln I/dT of each pixel, or of the mean of some."""
        step = 0.01
        low, high = (self.current_adu_s(temperature_c + d) for d in (-step, step))
        if pixels is not None:
            low, high = low[pixels].mean(), high[pixels].mean()
        return (np.log(high) - np.log(low)) / (2 * step)


def of_the_tests(law: str, seed: int, side: int, folder: Path) -> Truth:
    """A campaign of tests/simulated.py with drift of the pedestal."""
    recipe = dataclasses.replace(
        simulated.Recipe(), law=law, seed=seed, rows=side, cols=side, pedestal_drift_adu=0.5, gamma=(1.0, 0.0)
    )
    sensor = simulated.write_campaign(folder, recipe)
    model = {"physics": "two_component", "exponential": "exp_2d"}[law]
    return Truth(
        lambda t: sensor.signal_adu(t, 1.0), sensor.bias_adu, recipe.gain_e_per_adu, recipe.read_noise_e, model
    )


def of_the_camera(seed: int, side: int, folder: Path) -> Truth:
    """A campaign of the simulated camera's sensor, whose pixels have energies of their own."""
    sensor = Sensor(SensorSpec(rows=side, cols=side, seed=seed))
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for temperature_c in TEMPERATURES_C:
        for exposure_s, frames in [(0.0, 20), *((t, 8) for t in EXPOSURES_S)]:
            for _ in range(frames):
                hdu = fits.PrimaryHDU(sensor.dark_frame(exposure_s, temperature_c, number))
                hdu.header["IMAGETYP"] = "Dark Frame" if exposure_s else "Bias Frame"
                hdu.header["EXPTIME"], hdu.header["CCD-TEMP"] = exposure_s, temperature_c
                hdu.header["SET-TEMP"], hdu.header["INSTRUME"] = temperature_c, "simulated camera"
                hdu.header["EGAIN"] = sensor.electrons_per_adu()
                hdu.writeto(folder / f"frame_{number:05d}.fits")
                number += 1
    return Truth(
        lambda t: sensor.expected_dark_adu(1.0, t), lambda _: sensor.bias_adu(), sensor.electrons_per_adu(),
        sensor.spec.read_noise_e, "",
    )  # fmt: skip


def summary_of(output_dir: Path) -> dict[str, tuple[float, float, str, str]]:
    """Value, error, unit and origin of each quantity."""
    table = Table.read(output_dir / "sensor_summary.ecsv", format="ascii.ecsv")
    return {str(r["name"]): (float(r["value"]), float(r["error"]), str(r["unit"]), str(r["how"])) for r in table}


def bits_of(output_dir: Path) -> tuple[NDArray[np.int64], str]:
    """Bits of the mask and of the chosen model's fit together, and the model."""
    model = output_dir / "dark_model"
    chosen = yaml.safe_load((model / "model.yaml").read_text())["chosen"]
    folder = model if chosen == "exp_2d" else model / chosen
    masks = (fits.getdata(model / "hot_pixel_mask.fits", "DQ"), fits.getdata(folder / "status_map.fits", "DQ"))
    return np.asarray(masks[0] | masks[1]).astype(np.int64), chosen


def having(bits: NDArray[np.int64], *names: str) -> NDArray[np.bool_]:
    """Pixels with one of these bits."""
    return (bits & sum(BITS[name] for name in names)) != 0


def true_values(truth: Truth, output_dir: Path) -> dict[str, float]:
    """The true value of each quantity that has one, over the pixels that the summary used."""
    found = summary_of(output_dir)
    t = found["reference_temperature_c"][0]
    bits, _ = bits_of(output_dir)
    measured = ~having(bits, "DEAD", "SATURATED", "FAILED")
    for path in (output_dir / "dark_masks_by_temp").glob("*.fits"):
        measured &= fits.getdata(path, "COUNT") > 0
    invalid = having(bits, "DEAD", "SATURATED", "FAILED", "UNSTABLE", "NONLINEAR")
    typical = measured & ~invalid & ~having(bits, "HOT", "WARM", "OUTLIER")
    hot = measured & ~invalid & having(bits, "HOT")
    current, g = truth.current_adu_s(t), truth.gain_e_per_adu
    arrhenius = BOLTZMANN_EV_K * (t + ZERO_C_K) ** 2
    growth = float(truth.growth_per_k(t, typical))
    bias = truth.bias_adu(t)
    noise_adu = np.sqrt((truth.read_noise_e / g) ** 2 + 1 / 12)
    values = {
        "doubling_temperature_c": np.log(2) / growth,
        "activation_energy_ev": arrhenius * growth,
        "activation_energy_hot_ev": arrhenius * float(truth.growth_per_k(t)[hot].mean()),
        "bias_level_adu": float(np.median(bias)),
        "dsnu_adu": float(bias.std(ddof=1)),
        "dsnu_e": float(bias.std(ddof=1)) * g,
        "read_noise_adu": noise_adu,
        "read_noise_e": truth.read_noise_e,
        "gain_measured_e_per_adu": g,
    }
    for name, pixels in (("typical", typical), ("mean", measured)):
        values[f"dark_current_{name}_adu_s"] = float(current[pixels].mean())
        values[f"dark_current_{name}_e_s"] = float(current[pixels].mean()) * g
        values[f"dark_current_{name}_spread_adu_s"] = float(current[pixels].std(ddof=1))
    return {name: values[name] for name in found if name in values}


def map_pulls(truth: Truth, output_dir: Path, model: str) -> list[tuple[str, int, float, float]]:
    """Of each map: pixels, median and robust spread of the pulls, for ordinary and for hot pixels."""
    folder = output_dir / "dark_model" / ("" if model == "exp_2d" else model)
    bits, _ = bits_of(output_dir)
    rows = []
    for name, of_growth in (("activation_energy", None), ("doubling_temperature", np.log(2))):
        with fits.open(folder / f"{name}_map.fits") as hdus:
            t = float(hdus[0].header["T-REF"])
            value, error = hdus["SCI"].data.astype(float), hdus["ERR"].data.astype(float)
            own = np.asarray(hdus["DQ"].data).astype(np.int64)
        growth = truth.growth_per_k(t)
        true = BOLTZMANN_EV_K * (t + ZERO_C_K) ** 2 * growth if of_growth is None else of_growth / growth
        good = np.isfinite(value) & ~having(bits | own, "UNSTABLE", "NONLINEAR", "OUTLIER", "SATURATED")
        for kind, pixels in (("ordinary", good & ~having(bits, "HOT")), ("hot", good & having(bits, "HOT"))):
            pulls = ((value - true) / error)[pixels]
            rows.append((f"{name} of {model}, {kind}", pulls.size, float(np.median(pulls)), robust_spread(pulls)))
    return rows


def judge(title: str, truth: Truth, output_dir: Path, pulls: dict[str, list[float]]) -> bool:
    """Print truth, value, error, pull; collect the pulls; whether all are within the targets."""
    found, true = summary_of(output_dir), true_values(truth, output_dir)
    print(f"\n{title}: {bits_of(output_dir)[1]} was chosen")
    print(f"  {'quantity':<36} {'truth':>12} {'value':>12} {'error':>11} {'pull':>6}")
    passed = True
    for name, expected in true.items():
        value, error, unit, _ = found[name]
        pull = (value - expected) / error
        pulls.setdefault(name, []).append(pull)
        passed &= bool(abs(pull) < LARGEST_PULL)
        mark = "" if abs(pull) < LARGEST_PULL else "  MISSED"
        print(f"  {name:<36} {expected:12.6g} {value:12.6g} {error:11.3g} {pull:+6.2f}  {unit}{mark}")
    print(f"  {'map':<44} {'pixels':>8} {'median':>8} {'spread of pulls':>16}")
    for model in (truth.model,) if truth.model else ("exp_2d", "two_component"):
        for name, number, middle, spread in map_pulls(truth, output_dir, model):
            judged = bool(truth.model) and "energy" in name and "ordinary" in name
            missed = judged and abs(spread - 1) > MAP_SPREAD
            passed &= not missed
            print(f"  {name:<44} {number:8d} {middle:+8.3f} {spread:16.3f}{'  MISSED' if missed else ''}")
    return passed


def run(folder: Path, frames: Path, **settings: Any) -> Path:
    """``full`` without synthetic darks and pictures; the output directory."""
    given = {"evaluate_model": {"pictures": False}, **settings}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump(given))
    run_pipeline(
        "--mode", "full", "--until_step", 5, "--basepath", frames, "--output_dir", folder / "out",
        "--config", folder / "settings.yaml",
    )  # fmt: skip
    return folder / "out"


def print_real(folder: Path) -> None:
    """The summary of the real set; the cells at +10 °C kept out of the fit, as in the reference figures."""
    out = run(folder, real_data() / "stl1001e_sbu_dev", fit_dark_model={"exclude_temperatures_c": [10.0]})
    print("\nSTL-1001E")
    for name, (value, error, unit, how) in summary_of(out).items():
        print(f"  {name:<36} {value:12.6g} +- {error:<10.3g} {unit:<14} {how}")
    bits, _ = bits_of(out)
    for model in ("exp_2d", "two_component"):
        for name in ("activation_energy", "doubling_temperature"):
            value = fits.getdata(out / "dark_model" / ("" if model == "exp_2d" else model) / f"{name}_map.fits", "SCI")
            for kind, pixels in (("all", bits >= 0), ("hot", having(bits, "HOT"))):
                known = value[pixels & np.isfinite(value)]
                print(f"  {name} of {model}, {kind}: median {np.median(known):.4g}, defined in {known.size}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--side", type=int, default=256, help="pixels a side of the simulated sensors")
    parser.add_argument("--real", action="store_true", help="the real set alone")
    options = parser.parse_args(arguments)
    passed = True
    with tempfile.TemporaryDirectory() as temporary:
        if options.real:
            print_real(Path(temporary))
            return 0
        for title in ("physics", "exponential", "simulated camera"):
            pulls: dict[str, list[float]] = {}
            for seed in options.seeds:
                with tempfile.TemporaryDirectory(dir=temporary) as place:
                    frames = Path(place) / "raw"
                    make: Any = of_the_camera if title == "simulated camera" else of_the_tests
                    given = () if title == "simulated camera" else (title,)
                    truth = make(*given, seed, options.side, frames)
                    passed &= judge(f"{title}, seed {seed}", truth, run(Path(place), frames), pulls)
            if len(options.seeds) > 1:
                print(f"\n{title}: root mean square of the pulls over {len(options.seeds)} seeds")
                for name, values in pulls.items():
                    print(f"  {name:<36} {np.sqrt(np.mean(np.square(values))):6.2f}  mean {np.mean(values):+.2f}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
