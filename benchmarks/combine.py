"""Speed of combining raw frames, beside others on the same frames in the same run, and beside what cannot be left out.

``python benchmarks/combine.py [--quick]`` makes 50 raw darks (2048 x 2048 uint16 with cosmic rays and hot pixels;
quick: 1024 x 1024), and prints

- one master from files to file, as step 3 makes it (mean, error, bits, frames kept and rejected, reduced chi², scatter,
  error of the bias), against Siril's sigma clipping (``stack … rej s``, its own execution time), gnuastro's
  (``astarithmetic … sigclip-mean``), ccdproc (median and MAD clipping), and the floor: each file read once and turned
  into float32, plus a plain write of as many bytes as the product has. Nothing is synced; the product's digest is
  timed apart;
- the same for few frames;
- the kernel alone on samples in memory, in ns of one core a sample, against numpy (mean with std, median) and
  bottleneck (median);
- with ``--curves``, time and peak memory against frames (10 to 2,000) and pixels (0.25 to 61 Mpix).

Files are in the page cache and kernels compiled. Peers that are not installed are left out. Exit code 1 if a figure
misses its target.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import best
from benchmarks.table import Line
from darkpipe.files.masters import ReferenceValues, write_reference
from darkpipe.files.products import Frame, write_frame
from darkpipe.science.combine import clipped_mean

WORKER = Path(__file__).with_name("combine_worker.py")
FRAMES = 50
BIAS_ADU, READ_NOISE_ADU, GAIN = 1000.0, 6.0, 2.0
LARGEST = (6388, 9576)
MEMORY_MB, LARGE_MEMORY_MB = 600.0, 2000.0


@dataclass(frozen=True)
class Campaign:
    """Raw darks of one cell, and what a master is made with besides."""

    folder: Path
    files: list[Path]
    shape: tuple[int, int]

    def ask(self, work: str, frames: int, **more: Any) -> dict[str, float]:
        """What the worker answers: seconds, peak memory [MB]."""
        chosen = [str(self.files[i % len(self.files)]) for i in range(frames)]
        asked = {
            "work": work, "files": chosen, "offsets": np.linspace(-0.5, 0.5, frames).tolist(), "shape": self.shape,
            "out": str(self.folder / "master.fits"),
            **{name: str(self.folder / file) for name, file in OTHERS.items()}, **more,
        }  # fmt: skip
        command = [sys.executable, str(WORKER)]
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True)
        answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return answer


OTHERS = {"reference": "reference.yaml", "noise": "noise.fits", "bias": "bias.fits"}


def campaign(folder: Path, shape: tuple[int, int], frames: int) -> Campaign:
    """Make the frames: dark signal with a lognormal population, hot pixels, shot and read noise, cosmic rays."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    signal = rng.lognormal(2.0, 0.5, shape).astype(np.float32)
    hot = rng.random(shape, np.float32) < 0.003
    signal[hot] += rng.uniform(100, 30_000, int(hot.sum())).astype(np.float32)
    sigma = np.sqrt(READ_NOISE_ADU**2 + signal / GAIN)
    noise = [rng.standard_normal(shape, np.float32) for _ in range(3)]
    files = []
    for k in range(frames):
        turn = tuple(int(v) for v in rng.integers(0, shape[0], 2))
        image = BIAS_ADU + signal + sigma * np.roll(noise[k % 3], turn, (0, 1))
        rays = rng.integers(0, min(shape), (2, 100))
        image[rays[0], rays[1]] += rng.uniform(100, 20_000, 100)
        header = fits.Header({"EXPTIME": 60.0, "CCD-TEMP": -10.0, "IMAGETYP": "Dark Frame"})
        files.append(folder / f"dark_{k + 1:05d}.fits")
        fits.PrimaryHDU(np.clip(np.rint(image), 0, 65535).astype(np.uint16), header).writeto(files[-1])
    flat = np.full(shape, BIAS_ADU, np.float32)
    write_frame(folder / OTHERS["bias"], Frame(flat, np.ones(shape, np.float32), np.zeros(shape, np.uint16)))
    write_frame(folder / OTHERS["noise"], Frame(np.full(shape, READ_NOISE_ADU, np.float32)))
    values = ReferenceValues(1.0, READ_NOISE_ADU, GAIN, "set", 62_000.0, 0.0, -10.0)
    write_reference(folder / OTHERS["reference"], values)
    return Campaign(folder, files, shape)


# --- from files to file ----------------------------------------------------------------------------------------------


def by_siril(frames: Campaign, count: int) -> float | None:
    """Execution time that Siril tells of its stacking, best of two; None where it is not installed."""
    program = shutil.which("siril-cli")
    if program is None:
        return None
    work = frames.folder / f"siril_{count}"
    work.mkdir(exist_ok=True)
    for k, file in enumerate(frames.files[:count]):
        link = work / f"dark_{k + 1:05d}.fits"
        if not link.exists():
            link.symlink_to(file)
    best = None
    for _ in range(2):
        script = f"requires 1.0.0\nsetext fits\ncd {work}\nstack dark_ rej s 3 3 -nonorm -out=stacked\n"
        (work / "stack.ssf").write_text(script)
        command = [program, "-d", str(work), "-s", str(work / "stack.ssf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.findall(r"Execution time:\s*(?:(\d+) min )?([\d.]+)\s*(ms|s)", done.stdout + done.stderr)
        if done.returncode or not found:
            print(f"  Siril failed:\n{(done.stdout + done.stderr)[-800:]}", file=sys.stderr)
            return None
        minutes, number, unit = found[-1]
        taken = 60.0 * int(minutes or 0) + float(number) * (1e-3 if unit == "ms" else 1.0)
        best = taken if best is None else min(best, taken)
    return best


def by_gnuastro(frames: Campaign, count: int) -> float | None:
    """Seconds of the clock of its sigma clipping; None where it is not installed."""
    program = shutil.which("astarithmetic")
    if program is None:
        return None
    files = [str(file) for file in frames.files[:count]]
    out = frames.folder / "by_gnuastro.fits"
    command = [program, *files, str(count), "3", "0.2", "sigclip-mean", "-g0", "--quiet", f"--output={out}"]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - begin
    if done.returncode:
        print(f"  gnuastro failed:\n{(done.stdout + done.stderr)[-800:]}", file=sys.stderr)
        return None
    out.unlink()
    return taken


def by_ccdproc(frames: Campaign, count: int) -> float | None:
    """Seconds of ccdproc.combine; None where it is not installed."""
    try:
        import ccdproc  # noqa: F401
    except ImportError:
        return None
    out = str(frames.folder / "by_ccdproc.fits")
    return frames.ask("by_ccdproc", count, rounds=1, warm=False, out=out)["seconds"]


def master(frames: Campaign, count: int, *, judged: bool, ccdproc: bool = True) -> Line:
    """One master of so many frames."""
    made = frames.ask("product", count)
    size = (frames.folder / "master.fits").stat().st_size
    hashing = frames.ask("digest", count)["seconds"]
    made_again = frames.ask("product", count)  # before and after the others: the machine may be shared
    reading = frames.ask("read_and_convert", count)["seconds"]
    writing = frames.ask("write_bytes", count, bytes=size, out=str(frames.folder / "plain.bin"))["seconds"]
    others = {"Siril": by_siril(frames, count) if count > 2 else None}
    others["ccdproc"] = by_ccdproc(frames, count) if ccdproc else None
    others["gnuastro"] = by_gnuastro(frames, count) if judged else None
    peers = {name: taken for name, taken in others.items() if taken is not None}
    taken = min(made["seconds"], made_again["seconds"])
    peak, floor = max(made["peak_mb"], made_again["peak_mb"]), reading + writing
    least = {"Siril": 10.0, "ccdproc": 30.0}
    reached = taken - hashing <= 6.0 * floor and peak < MEMORY_MB
    reached &= all(peers[name] >= times * taken for name, times in least.items() if name in peers)
    side = f"{frames.shape[0]} x {frames.shape[1]}"
    return Line(
        f"master of {count} x {side}, files to file",
        taken,
        peers,
        floor,
        "Siril 10 x, ccdproc 30 x, 6 x floor, 600 MB" if judged else "",
        reached if judged else None,
        f"{min(made['cpu_seconds'], made_again['cpu_seconds']):.2f} s of CPU, hashing {1e3 * hashing:.0f} ms, "
        f"peak {peak:.0f} MB, reading {1e3 * reading:.0f} ms, writing {size / 1e6:.0f} MB {1e3 * writing:.0f} ms",
    )


# --- the machine -----------------------------------------------------------------------------------------------------

TARGETS_MACHINE_S = 0.038  # where targets in seconds were set: two cores with vectors of 512 bits in one turn


def machine(frames: Campaign) -> Line:
    """What this machine takes for a piece of work that is known of the one that targets in seconds come from."""
    taken = frames.ask("read_and_convert", FRAMES)["seconds"]
    side = f"{frames.shape[0]} x {frames.shape[1]}"
    others = {"the machine of the targets": TARGETS_MACHINE_S} if frames.shape == (2048, 2048) else {}
    return Line(f"the machine: {FRAMES} x {side} read and turned to float32, one core", taken, others, None, "", None)


# --- the kernel ------------------------------------------------------------------------------------------------------


def kernel(count: int, pixels: int, rounds: int) -> Line:
    """Samples in memory."""
    rng = np.random.default_rng(count)
    signal = rng.lognormal(2.0, 0.5, pixels).astype(np.float32)
    sigma = np.sqrt(READ_NOISE_ADU**2 + signal / GAIN)
    samples = np.empty((count, pixels), np.uint16)
    for row in samples:
        row[:] = np.rint(BIAS_ADU + signal + sigma * rng.standard_normal(pixels, np.float32))
    bias, noise = (np.full(pixels, value, np.float32) for value in (BIAS_ADU, READ_NOISE_ADU))
    offsets = np.linspace(-0.3, 0.3, count)

    def combine() -> object:
        return clipped_mean(samples, level_adu=offsets, read_noise_adu=noise, gain_e_per_adu=GAIN, bias_adu=bias,
                            relative_error=0.01, valid_low=0.0, valid_high=62_000.0)  # fmt: skip

    def by_numpy() -> object:
        return samples.mean(axis=0, dtype=np.float32), samples.std(axis=0, dtype=np.float32)

    taken = best(combine, rounds, time.thread_time)
    peers = {"numpy mean and std": best(by_numpy, rounds, time.thread_time)}
    if count > 2:
        peers["numpy median"] = best(lambda: np.median(samples, axis=0), 1, time.thread_time)
        if importlib.util.find_spec("bottleneck"):
            import bottleneck

            peers["bottleneck median"] = best(
                lambda: bottleneck.nanmedian(samples.astype(np.float32), axis=0), 1, time.thread_time
            )
    each = 1e9 * taken / samples.size
    note = f"{each:.2f} ns a sample, {each * count:.1f} ns a pixel"
    name = f"clipped mean, error, chi², bits: kernel, {count} x {pixels / 1e6:.2g} Mpix, one core"
    return Line(name, taken, peers, None, "", None, note)


# --- curves ----------------------------------------------------------------------------------------------------------


def curves(folder: Path) -> list[Line]:
    """Against frames at 2048 x 2048, and against pixels at 50 frames and 200: files are linked to a few that exist."""
    made = []
    square = campaign(folder / "frames", (2048, 2048), 10)
    for count in (10, 50, 200, 1000, 2000):
        made.append(point(square, count))
    for side in (512, 1024, 4096):
        made.append(point(campaign(folder / f"side_{side}", (side, side), 4), 50))
        shutil.rmtree(folder / f"side_{side}")
    large = campaign(folder / "large", LARGEST, 3)
    return [*made, point(large, 50), point(large, 200)]


def point(frames: Campaign, count: int) -> Line:
    """One master; judged by its memory."""
    rounds = 1 if count * frames.shape[0] * frames.shape[1] > 1e9 else 2
    found = frames.ask("product", count, rounds=rounds, warm=False)
    samples = count * frames.shape[0] * frames.shape[1]
    each = 1e9 * found["cpu_seconds"] / samples
    note = f"{found['cpu_seconds']:.2f} s of CPU, {each:.2f} ns a sample, peak {found['peak_mb']:.0f} MB"
    name = f"master of {count} x {frames.shape[0]} x {frames.shape[1]}, files to file"
    return Line(name, found["seconds"], {}, None, "below 2 GB", found["peak_mb"] < LARGE_MEMORY_MB, note)


def measure(quick: bool, with_curves: bool = False) -> list[Line]:
    """All lines; see the head of this file."""
    side = 1024 if quick else 2048
    with tempfile.TemporaryDirectory(prefix="combine-", dir=os.environ.get("TMPDIR")) as name:
        frames = campaign(Path(name) / "raw", (side, side), FRAMES)
        made = [machine(frames), master(frames, FRAMES, judged=not quick)]
        made += [
            master(frames, count, judged=False, ccdproc=count < 6) for count in ((1, 5) if quick else (1, 2, 5, 20))
        ]
        pixels, rounds = (1 << 18, 2) if quick else (1 << 20, 5)
        made += [kernel(count, pixels, rounds) for count in ((1, 5, 50) if quick else (1, 2, 3, 5, 10, 20, 50, 200))]
        return made + (curves(Path(name)) if with_curves else [])


def lines(quick: bool) -> list[Line]:
    """For the table of all benchmarks."""
    return measure(quick)


def show(found: Sequence[Line]) -> None:
    """A line each, with ratios."""
    for line in found:
        ratios = "  ".join(f"{name} {s:.3g} s ({s / line.product_s:.2g} x)" for name, s in line.peers.items())
        floor = "" if line.floor_s is None else f"  floor {line.floor_s:.3g} s ({line.product_s / line.floor_s:.2g} x)"
        mark = {None: "", True: "ok", False: "MISSED"}[line.passed]
        print(f"{line.work}: {line.product_s:.3g} s  {ratios}{floor}\n    {line.note}  {line.target} {mark}")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller frames, fewer rounds")
    parser.add_argument("--curves", action="store_true", help="also against frames and pixels (3 GB of disk)")
    options = parser.parse_args()
    found = measure(options.quick, options.curves)
    show(found)
    return 1 if any(line.passed is False for line in found) else 0


if __name__ == "__main__":
    sys.exit(main())
