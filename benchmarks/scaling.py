"""Time and memory of ``full`` against the number of frames, of pixels and of cells, each point in a process of its own.

``python benchmarks/scaling.py`` prints the table; ``--write`` also puts it, and the figure, into docs/scaling.md;
``--small`` takes small frames, to try the script; ``--only pixels`` one of the curves. Frames are simulated on disk
(TMPDIR says where) and removed after each point; a point that would not leave 5 GB free is left out, and said.
The disk is not waited for (DARKPIPE_NO_FSYNC); kernels are compiled before. ``--largest`` instead measures 2,000 frames
of 2048 x 2048 and 200 of 9576 x 6388 up to the master darks, whose memory must stay below 2 GB; it needs 35 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import REPOSITORY, run_pipeline
from benchmarks.made_frames import Campaign, make_frames
from benchmarks.table import machine, put_into

PAGE = REPOSITORY / "docs" / "scaling.md"
FIGURE = REPOSITORY / "docs" / "images" / "scaling.svg"
IMAGE = "![Wall time, CPU time and peak memory against frames, pixels and cells](images/scaling.svg)"
FREE_BYTES = 5e9
MODEL_BYTES = 270  # of products a pixel, beside those of each cell and temperature
CELL_BYTES = 40
MASTERS_STEP, MOST_MB = 3, 2000.0
ONE_MODEL = {"fit_dark_model": {"model": "exp_2d"}}

SMALL_GRID = Campaign(temperatures_c=(-10.0, 0.0), exposures_s=(30.0, 120.0))


@dataclass(frozen=True)
class Point:
    """What one run took."""

    curve: str
    files: int
    megapixels: float
    cells: int
    seconds: float
    cpu_s: float
    peak_mb: float

    def along(self) -> float:
        """Where it lies on its curve."""
        return {"frames": float(self.files), "pixels": self.megapixels, "cells": float(self.cells)}[self.curve]


def campaigns(small: bool) -> dict[str, list[Campaign]]:
    """The points of each curve; of the other two quantities each keeps what it has."""
    side, many = (128, 200) if small else (1024, 2000)
    frames = [n for n in (10, 50, 200, 500, 2000) if n <= many]
    shapes = [(512, 512), (1024, 1024), (2048, 2048), (4096, 4096), (6388, 9576)]
    grids = [(2, 2), (3, 3), (5, 5), (7, 7), (10, 10)]
    if small:
        shapes, grids = [(64, 64), (128, 128), (256, 256)], grids[:3]
    return {
        "frames": [replace(SMALL_GRID, rows=side, columns=side, frames=n // 5, biases=n // 10) for n in frames],
        "pixels": [replace(SMALL_GRID, rows=r, columns=c, frames=8, biases=4) for r, c in shapes],
        "cells": [
            Campaign(
                min(side, 512), min(side, 512),
                tuple(np.linspace(-20.0, 0.0, n).round(2).tolist()), tuple(np.geomspace(10, 300, m).round(1).tolist()),
                frames=4, biases=4,
            )
            for n, m in grids
        ],
    }  # fmt: skip


def needed_bytes(campaign: Campaign, model: bool = True) -> float:
    """Room on the disk for frames and products, more than they take."""
    planes = MODEL_BYTES * model + CELL_BYTES * (campaign.cells + len(campaign.temperatures_c))
    return campaign.raw_bytes + planes * campaign.rows * campaign.columns


def measured(curve: str, campaign: Campaign, folder: Path, until_step: int = 19) -> Point | None:
    """One run; None where the disk is too small for it. The folder is empty again afterwards."""
    if shutil.disk_usage(folder).free < needed_bytes(campaign, until_step > MASTERS_STEP) + FREE_BYTES:
        print(f"{curve}: {campaign.files} frames of {campaign.megapixels:.1f} Mpix do not fit on this disk", flush=True)
        return None
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump(ONE_MODEL))
    try:
        frames = make_frames(folder / "raw", campaign)
        flags = ("--config", settings, "--basepath", frames, "--output_dir", folder / "out")
        ran = run_pipeline("--mode", "full", "--until_step", until_step, *flags)
    finally:
        for name in ("raw", "out"):
            shutil.rmtree(folder / name, ignore_errors=True)
    point = Point(curve, campaign.files, campaign.megapixels, campaign.cells, ran.seconds, ran.cpu_seconds, ran.peak_mb)
    print(json.dumps(asdict(point)), flush=True)
    return point


def largest(folder: Path) -> bool:
    """Master darks of many frames and of large ones: whether both were measured and stayed below the limit."""
    many = replace(SMALL_GRID, frames=400, biases=200)
    large = replace(SMALL_GRID, rows=6388, columns=9576, frames=40, biases=20)
    points = [measured("frames", size, folder, MASTERS_STEP) for size in (many, large)]
    return all(point is not None and point.peak_mb < MOST_MB for point in points)


def growth(points: Sequence[Point]) -> float:
    """Exponent of the time between the last two points: 1 is in proportion, less is cheaper than that."""
    a, b = points[-2], points[-1]
    return float(np.log(b.seconds / a.seconds) / np.log(b.along() / a.along()))


def table(curves: Mapping[str, Sequence[Point]]) -> str:
    """The points as a table for a page, and what the curves say."""
    head = ("curve", "frames", "Mpix", "cells", "wall [s]", "CPU [s]", "peak memory [MB]")
    rows = [
        (p.curve, p.files, f"{p.megapixels:.2f}", p.cells, f"{p.seconds:.1f}", f"{p.cpu_s:.1f}", f"{p.peak_mb:.0f}")
        for points in curves.values()
        for p in points
    ]
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]
    said = [
        f"{name}: {points[-1].along():g} against {points[-2].along():g}, time to the power of {growth(points):.2f}"
        for name, points in curves.items()
        if len(points) > 1
    ]
    return "\n".join([*lines, "", "Between the last two points of a curve: " + "; ".join(said) + ".", "", machine()])


def draw(curves: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Wall time and peak memory along each curve, both axes logarithmic."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    labels = {"frames": "frames", "pixels": "pixels of a frame [Mpix]", "cells": "cells"}
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots(2, len(curves), sharey="row", squeeze=False)
    for column, (name, points) in enumerate(curves.items()):
        x = [p.along() for p in points]
        time, memory = axes[0, column], axes[1, column]
        time.loglog(x, [p.seconds for p in points], "o-", color="#0072B2", label="wall")
        time.loglog(x, [p.cpu_s for p in points], "s--", color="#D55E00", label="CPU")
        last = points[-1]
        time.loglog(x, [last.seconds * v / last.along() for v in x], ":", color="0.5", label="in proportion")
        memory.loglog(x, [p.peak_mb for p in points], "o-", color="#0072B2")
        memory.set_ylim(100, 10_000)
        memory.set_xlabel(labels[name])
        for box in (time, memory):
            box.set_xticks(x, [f"{v:.2g}" if v < 100 else f"{v:.0f}" for v in x])
            box.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("time [s]")
    axes[1, 0].set_ylabel("peak memory [MB]")
    axes[0, 0].legend(frameon=False)
    for box in axes.ravel():
        box.grid(alpha=0.3)
    with matplotlib.rc_context({"svg.hashsalt": "scaling", "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})


def write(curves: Mapping[str, Sequence[Point]]) -> None:
    """Put the table between its marks in the page, and the figure beside it."""
    put_into(PAGE, "scaling.py", f"{table(curves)}\n\n{IMAGE}")
    draw(curves, FIGURE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="small frames, to try the script")
    parser.add_argument("--only", nargs="+", choices=("frames", "pixels", "cells"), help="these curves")
    parser.add_argument("--largest", action="store_true", help="memory of the largest sets alone, up to the masters")
    parser.add_argument("--write", action="store_true", help="put table and figure into docs/scaling.md")
    options = parser.parse_args(arguments)
    os.environ["DARKPIPE_NO_FSYNC"] = "1"
    curves: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        warm = Campaign(64, 64, (-10.0, 0.0), (30.0, 120.0), frames=3, biases=3)
        measured("frames", warm, folder)
        if options.largest:
            return 0 if largest(folder) else 1
        for curve, sizes in campaigns(options.small).items():
            if options.only is None or curve in options.only:
                points = [point for size in sizes if (point := measured(curve, size, folder)) is not None]
                curves[curve] = points
    print(table(curves))
    if options.write:
        write(curves)
    return 0


if __name__ == "__main__":
    sys.exit(main())
