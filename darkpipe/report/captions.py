"""What is said of each picture of the report: the text that stands for it, and the line below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from darkpipe.report.blocks import Picture

CAPTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "temperature_": (
        "Temperature of the sensor and its set point against time, power of the cooler below",
        "Temperature log of a session; grey: exposures.",
    ),
    "bias_levels": (
        "Median level of each bias frame in the order of time, by temperature",
        "Level of the bias frames: a drift or a jump of the pedestal shows here.",
    ),
    "master_dark_": (
        "Map of the master dark of cell {}, in ADU",
        "Master dark, stretched so that bulk, gradients and hot pixels show.",
    ),
    "residual_": (
        "Map of master minus synthetic dark of cell {}, in ADU",
        "What the synthetic dark leaves of this master; colours diverge from zero.",
    ),
    "hot_pixel_map": (
        "Map of special pixels by kind, with their numbers",
        "Special pixels. Where a block of pixels is one point, it shows the gravest of them.",
    ),
    "hot_pixel_curve": (
        "Number of pixels above each dark signal, both axes logarithmic",
        "Cumulative hot-pixel curve: how many pixels of the brightest master lie above a signal.",
    ),
    "parameter_maps": (
        "Maps of the parameters of the chosen model, with their units",
        "Parameters of the chosen model.",
    ),
    "dark_vs_exposure": (
        "Dark signal of bulk, warm and hot pixels against exposure, with the model as lines",
        "Sample pixels against exposure. Points: masters with 1 sigma; lines: the model.",
    ),
    "dark_vs_temperature": (
        "Dark signal of the same pixels against inverse temperature, with the model as lines",
        "The same pixels against 1/T. Where the scale is logarithmic a straight line is one activation energy.",
    ),
    "glow_map": (
        "Map of amplifier glow by blocks of the sensor, in ADU per second",
        "Amplifier glow: what does not depend on temperature, above the common level.",
    ),
    "check_model": (
        "Dark rates, levels and pulls of the new frames against the model, cell by cell, and changed pixels",
        "New frames against the model, cell by cell.",
    ),
    "evaluation_summary": (
        "Errors of each cell by model, held out and in sample, beside noise floor and nearest master; pulls",
        "Every cell: errors, errors over noise floor, spread of the pulls, relative errors.",
    ),
    "grid_mae": (
        "Grid of the mean absolute error of each cell, in ADU",
        "Mean absolute error, by temperature and exposure.",
    ),
    "grid_mape": (
        "Grid of the mean absolute relative error of each cell, in percent",
        "Mean absolute relative error, over pixels that exceed 5 of their errors.",
    ),
    "grid_noise_floor": (
        "Grid of the error of each cell over its noise floor",
        "Error over noise floor: 1 is as good as the master tells.",
    ),
    "grid_pulls": (
        "Grid of the robust spread of the pulls of each cell",
        "Spread of the pulls: 1 where errors are told right.",
    ),
}
"""Text and caption by the name of a picture, or by how it begins: the rest names a cell or a session."""

ROWS: Final = ("temperature_", "parameter_maps", "check_model", "evaluation_summary")
FLAT: Final = 2.0  # width over height from which on a picture takes a row


def pictures_of(pictures: Mapping[str, bytes], names: Sequence[str]) -> list[Picture]:
    """Those that there are, of these names or beginnings of names, in this order.

    pictures : PNG by name of the file.
    """
    shown = []
    for wanted in names:
        exact = not wanted.endswith("_")
        for file, png in pictures.items():
            name = file.rpartition(".")[0]
            if name == wanted if exact else name.startswith(wanted):
                alt, caption = CAPTIONS[wanted]
                alt = alt.format(name.removeprefix(wanted))
                it = Picture(png, alt, caption, wanted in ROWS, file)
                shown.append(replace(it, row=it.row or (it.wide and it.size[0] > FLAT * it.size[1])))
    return shown
