"""How accurate the model is: the part of the report that holds predictions against masters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkpipe.report.blocks import (
    Block,
    Picture,
    Pictures,
    Section,
    Table,
    Value,
    Words,
    columns,
    decimals,
    number,
    plain_temperature,
    texts,
)
from darkpipe.report.canvas import (
    FAINT,
    PRINT_DPI,
    Scale,
    add_box,
    drawing,
    new_page,
    plain,
    robust_limits,
    save_png,
    write,
)
from darkpipe.report.captions import pictures_of
from darkpipe.science.blocks import block_mean

Row = Mapping[str, Any]

MAP_PIXELS: Final = 24 * 160 * 160  # of all small maps of one kind: what they may weigh
LEAST_SIDE: Final = 48
CLASSES: Final = (
    ("below_300", "below 300 ADU"),
    ("300_to_1000", "300 to 1,000"),
    ("1000_to_5000", "1,000 to 5,000"),
    ("above_5000", "above 5,000"),
)
KINDS: Final = {
    "held out": "the cell was left out of the fit that predicted it",
    "in sample": "the cell could not be left out",
    "new": "the fit has not seen these frames",
    "seen": "the fit has seen frames of this cell, so that its errors are in sample",
    "extrapolated": "outside of the range of the model",
}


def of_chosen(facts: Mapping[str, Any]) -> list[Row]:
    """Rows of the model that makes the darks, by temperature and exposure."""
    base = str(facts["chosen"]).split("/")[0]
    rows = [r for r in facts["evaluation"] if str(r["model"]).split("/")[0] == base]
    return sorted(rows, key=lambda r: (float(r["temperature_c"]), float(r["exposure_s"])))


def held_out_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The accuracy in two or three figures."""
    rows = of_chosen(facts)
    told = [r for r in rows if str(r["kind"]) not in ("in sample", "seen")]
    if not told:
        seen = any(str(r["kind"]) == "seen" for r in rows)
        why = "none: the fit has seen these frames" if seen else "no cell could be left out"
        return [("Held-out error", why)] if rows else []
    held = all(str(r["kind"]) == "held out" for r in told)
    ratio = _mean([_ratio(r, "mae_unflagged_adu") for r in told])
    nearest = _mean([_ratio(r, "nearest_scaled_mae_unflagged_adu") for r in told])
    items = [("Held-out error" if held else "Error on new frames", f"{number(ratio).text} × noise floor")]
    if math.isfinite(nearest):
        items.append(("Nearest master, scaled", f"{number(nearest).text} × noise floor"))
    spread = [float(r["pull_spread_unflagged"]) for r in told if math.isfinite(float(r["pull_spread_unflagged"]))]
    if spread:
        items.append(("Spread of the pulls, median", number(float(np.median(spread))).text))
    return items


def _ratio(row: Row, name: str) -> float:
    floor = float(row["noise_floor_unflagged_adu"])
    return float(row.get(name, math.nan)) / floor if floor > 0 else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return float(np.mean(known)) if known else math.nan


def accuracy_section(
    facts: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    maps: Mapping[str, tuple[bool, Mapping[str, NDArray[np.float32]]]],
) -> Section | None:
    """Errors of each cell as numbers, grids and maps."""
    rows = of_chosen(facts)
    if not rows:
        return None
    kinds = dict.fromkeys(str(r["kind"]) for r in rows)
    lines = [f"{kind[:1].upper()}{kind[1:]}: {KINDS[kind]}." for kind in kinds if kind in KINDS]
    lines.append(
        "The noise floor is the mean absolute error that the noise of the master alone would give; a model without any "
        "error of its own stands at 1. The pull of a pixel is its error divided by its 1 sigma, that of the master and "
        "that of the synthetic dark together: their spread is 1 where the errors are told right."
    )
    blocks: list[Block] = [Words(lines)]
    names = ("evaluation_summary", "grid_mae", "grid_mape", "grid_noise_floor", "grid_pulls")
    if shown := pictures_of(pictures, names):
        blocks.append(Pictures(shown))
    blocks += [_cells(rows), _pulls(rows)]
    classes = _classes(rows)
    if classes is not None:
        blocks.append(classes)
    blocks += _all_maps(rows, maps)
    return Section("Accuracy", blocks)


def _place(row: Row) -> list[Value]:
    t, e = float(row["temperature_c"]), float(row["exposure_s"])
    return [Value(plain_temperature(t), t), Value(f"{e:g}", e)]


def _cells(rows: Sequence[Row]) -> Table:
    """Held out beside in sample, noise floor and baseline."""
    every = (
        ("n_frames", "Frames"),
        ("median_signal_adu", "Median signal [ADU]"),
        ("mae_adu", "MAE held out [ADU]"),
        ("in_sample_mae_adu", "MAE in sample [ADU]"),
        ("noise_floor_adu", "Noise floor [ADU]"),
        ("nearest_scaled_mae_adu", "Nearest master scaled [ADU]"),
        ("median_error_adu", "Median error [ADU]"),
        ("mape_percent", "MAPE [%]"),
    )
    new = not any(str(r["kind"]) == "held out" for r in rows)
    shown = columns(rows, [name for name, _ in every])
    heads = [head.replace("held out", "") if new else head for name, head in every if name in shown]
    mixed = len({str(r["kind"]) for r in rows}) > 1
    body = [
        [
            *_place(r),
            *([Value(str(r["kind"]))] if mixed else []),
            *(decimals(r[n], 0) if n == "n_frames" else number(r.get(n, math.nan), 3) for n in shown),
        ]
        for r in rows
    ]
    note = (
        "MAE: mean absolute error over all pixels. MAPE: mean absolute relative error over pixels that exceed 5 of "
        "their errors. Nearest master: the longest other one at the same (else the nearest) temperature, scaled by "
        "exposure."
    )
    return Table("Errors of each cell", ["T [°C]", "t [s]", *(["Kind"] if mixed else []), *heads], body, note)


def _pulls(rows: Sequence[Row]) -> Table:
    every = (
        ("pull_median_unflagged", "Median"),
        ("pull_spread_unflagged", "Spread (1.48 MAD)"),
        ("pull_interval_68_unflagged", "Half width of 68 %"),
        ("pull_outlier_fraction_unflagged", "Beyond 5 [%]"),
        ("n_pixels_unflagged", "Pixels"),
    )
    body = []
    for r in rows:
        values = [decimals(r.get(name, math.nan), 3) for name, _ in every[:3]]
        values += [decimals(100 * float(r.get(every[3][0], math.nan)), 3), decimals(r.get(every[4][0], math.nan), 0)]
        body.append([*_place(r), *values])
    note = "Unflagged pixels. Spread and half width are 1, and the median 0, where errors are told right."
    return Table("Pulls of each cell", ["T [°C]", "t [s]", *(head for _, head in every)], body, note)


def _classes(rows: Sequence[Row]) -> Table | None:
    """Errors by predicted signal, all cells together."""
    body = []
    for name, label in CLASSES:
        counts = np.array([float(r.get(f"n_{name}_unflagged", 0.0)) for r in rows])
        if not np.nansum(counts) > 0:
            continue
        values = [float(np.nansum(counts))]
        for column in ("mae_{}_unflagged_adu", "noise_floor_{}_unflagged_adu", "pull_spread_{}_unflagged"):
            found = np.array([float(r.get(column.format(name), math.nan)) for r in rows])
            known = np.isfinite(found) & (counts > 0)
            values.append(float(np.average(found[known], weights=counts[known])) if known.any() else math.nan)
        ratio = values[1] / values[2] if values[2] > 0 else math.nan
        body.append(
            [
                *texts(label),
                decimals(values[0], 0),
                number(values[1]),
                number(values[2]),
                decimals(ratio, 3),
                decimals(values[3], 3),
            ]
        )
    heads = ("Predicted signal", "Samples", "MAE [ADU]", "Noise floor [ADU]", "MAE / noise floor", "Spread of pulls")
    note = "Means over the cells, weighted by their pixels; unflagged pixels."
    return Table("Errors by signal", heads, body, note, sortable=False) if body else None


def _all_maps(rows: Sequence[Row], maps: Mapping[str, tuple[bool, Mapping[str, NDArray[np.float32]]]]) -> list[Block]:
    """Maps of the errors of all cells with one scale each."""
    told = [r for r in rows if str(r["cell"]) in maps]
    blocks: list[Block] = []
    for name, what, unit, column in (
        ("absolute", "absolute error", "ADU", "mae_adu"),
        ("relative", "relative error", "%", "mape_percent"),
    ):
        images = {str(r["cell"]): maps[str(r["cell"])][1][name] for r in told}
        if not any(np.isfinite(image).any() for image in images.values()):
            continue
        scale = _common_scale(list(images.values()))
        side = max(LEAST_SIDE, min(160, int(math.sqrt(MAP_PIXELS / len(images)))))
        items = []
        for r in told:
            held, _ = maps[str(r["cell"])]
            where = f"{plain_temperature(float(r['temperature_c']))} °C, {float(r['exposure_s']):g} s"
            kind = "" if held or str(r["kind"]) != "held out" else " (in sample)"
            caption = f"{where}: {number(r[column], 3, unit).text}{kind}"
            small = block_mean(images[str(r["cell"])], side)
            items.append(Picture(_painted(small, scale), f"Map of the {what} at {where}", caption))
        grey = "; grey: too faint to compare" if name == "relative" else ""
        note = f"The {what} of every cell, in one scale{grey}. A point is the mean of a block of pixels."
        limits = f"{plain(scale.low, 3)} to {plain(scale.high, 3)} {unit}"
        bar = Picture(_bar(scale, unit), f"Colours of the {what}, {limits}", f"{what[:1].upper()}{what[1:]} [{unit}]")
        blocks.append(Pictures(items, small=True, note=note, legend=bar))
    return blocks


def _common_scale(images: Sequence[NDArray[np.float32]]) -> Scale:
    """From the faintest to nearly the largest, evenly by ratio."""
    values = np.concatenate([image.ravel() for image in images])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = robust_limits(values, 1, 99.8)
    low = max(low, high / 1000)
    return Scale(low, high, "cividis", 0.0, low / 2, no_value=FAINT)


def _painted(image: NDArray[np.float32], scale: Scale) -> bytes:
    """An image as PNG, a pixel a value; row 0 at the bottom."""
    painted = scale.paint(image)[::-1, :, :3]
    picture = Image.fromarray(np.ascontiguousarray(painted)).quantize(64, dither=Image.Dither.NONE)
    out = BytesIO()
    picture.save(out, "PNG", compress_level=9)
    return out.getvalue()


@drawing
def _bar(scale: Scale, unit: str) -> bytes:
    """The colours of a scale as PNG, lying."""
    page = new_page(620, 84, PRINT_DPI)
    axes = add_box(page, 24, 8, 520, 22)
    low, high = scale.limits()
    steps = np.linspace(low, high, 256)
    axes.imshow(steps[None, :], cmap=scale.colours, aspect="auto", extent=(low, high, 0, 1))
    free, shown = -math.inf, []
    for place, label in zip(*scale.ticks(), strict=True):
        half = 0.5 * (high - low) * (11 * len(label) + 10) / 520
        if place - half > free:
            shown.append((place, label))
            free = place + half
    axes.set_xticks([place for place, _ in shown], [label for _, label in shown], fontsize=8)
    axes.set_yticks([])
    write(page, 556, 8, unit, 8.5)
    out = BytesIO()
    save_png(page, out)
    return out.getvalue()
