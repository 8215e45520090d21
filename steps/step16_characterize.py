"""Step 16: a master of one set of alike frames the classical way, and what it leaves of each -> characterize/."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from darkpipe.errors import SettingsError
from darkpipe.files.atomic import replace_file
from darkpipe.files.characterizing import (
    MasterFacts,
    combine_set,
    of_master,
    read_facts,
    record,
    residual_of,
    subtract,
    write_classic_master,
    write_subtracted,
)
from darkpipe.files.corrections import corrected_names
from darkpipe.files.evaluating import read_json, write_json
from darkpipe.files.frame_set import (
    LEFT_OUT,
    Expected,
    FrameSet,
    check_frames,
    check_select,
    parse_shape,
    parse_window,
    read_set,
)
from darkpipe.files.index import ACCEPTED, MOST_LINES, read_index, survey_key, survey_of
from darkpipe.files.layout import OutputDir
from darkpipe.files.products import Card, read_planes
from darkpipe.files.tables import read_table, table_of, write_table
from darkpipe.jobs.contract import Job
from darkpipe.report.drawing import (
    before_and_after,
    cell_name,
    chosen_points,
    save_png,
    set_statistics,
    stretched_image,
)
from darkpipe.science.stretch import Kind, Stretch
from steps.settings.step16_characterize import NAME as NAME
from steps.settings.step16_characterize import Settings as Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 2

STEP: Sequence[Card] = (("STEP", NAME, "step that made this"), ("STEPVERS", VERSION, "its version"))
WINDOW_SIDE = 200  # of the window that is drawn where none is given
FRAME_MARGIN = 2.0  # sigma of a frame by which black and white point lie further apart than those of the master
NOISIER = 1.1  # found / expected sigma from which on a frame is named
DRIFT = 1.0  # spread of levels, in sigma of a pixel, from which on it is said
WARMER_C = 1.0  # spread of readings from which on it is said


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """The table of frames with the check, the master, every frame less it, statistics, pictures.

    Raises
    ------
    FrameError
        when frames are not as expected, or none is left.
    DesignError
        when the frames are of several groups, or there is one alone.
    SettingsError
        for a selection, a window or a representative frame that cannot be.
    """
    check_select(settings.select)
    yield [_check_job(out, settings)]
    frames = read_set(out.frame_set)
    window = _window(settings, frames)
    position = frames.position(settings.representative)
    master = out.classic_master(str(frames.rows[0]["kind"]))
    params = {"method": settings.combine, "hot_sigma": settings.hot_sigma}
    yield [
        Job(combine, (out.frame_set, *frames.paths), (master,), params, label=f"master of {len(frames.rows)} frames")
    ]
    stems = corrected_names(frames.names)
    yield [_frame_job(out, settings, frames, k, master, stems) for k in range(len(frames.rows))]
    numbers = tuple(out.set_numbers(stems[name]) for name in frames.names)
    told = {"hot_sigma": settings.hot_sigma}
    yield [Job(tabulate, (master, *numbers), (out.set_statistics,), told, label="table of statistics")]
    if settings.pictures != "none":
        yield list(_picture_jobs(out, settings, frames, position, window, master, stems))


def _check_job(out: OutputDir, settings: Settings) -> Job:
    accepted = [str(r["file"]) for r in read_index(out.index) if str(r["status"]) == ACCEPTED]
    params = {
        "files": accepted,
        "select": settings.select,
        **settings.model_dump(include={"expect_shape", "expect_exposure_s", "expect_filter"}),
    }
    inputs = (out.index, *(out.survey(survey_key(name)) for name in accepted))
    return Job(check, inputs, (out.frame_set,), params, label="check of the frames")


def check(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    files: list[str],
    select: Mapping[str, str],
    expect_shape: str | None,
    expect_exposure_s: float | None,
    expect_filter: str | None,
) -> dict[Path, str]:
    """Which frames are of the set, and which are not as expected."""
    surveys = {name: survey_of(path) for name, path in zip(files, inputs[1:], strict=True)}
    expected = Expected(parse_shape(expect_shape) if expect_shape else None, expect_exposure_s, expect_filter)
    return {outputs[0]: check_frames(inputs[0], surveys, expected, select, outputs[0])}


def _window(settings: Settings, frames: FrameSet) -> tuple[int, int, int, int]:
    rows, cols = frames.shape
    if settings.window is not None:
        try:
            return parse_window(settings.window, frames.shape)
        except ValueError as error:
            raise SettingsError(str(error), where="characterize.window") from None
    high, wide = min(rows, WINDOW_SIDE), min(cols, WINDOW_SIDE)
    r0, c0 = (rows - high) // 2, (cols - wide) // 2
    return r0, r0 + high, c0, c0 + wide


def combine(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, method: Literal["median", "average"], hot_sigma: float
) -> dict[Path, str]:
    """Median or average of the set."""
    frames = read_set(inputs[0])
    made = combine_set(frames, method, hot_sigma)
    return {outputs[0]: write_classic_master(outputs[0], made, frames, method, STEP)}


_OF_A_FRAME = ("file", "kind", "exposure_s", "temperature_c", "set_point_c", "date_obs", "n_high")


def _frame_job(
    out: OutputDir, settings: Settings, frames: FrameSet, k: int, master: Path, stems: Mapping[str, str]
) -> Job:
    name = frames.names[k]
    row = {key: _plain(frames.rows[k][key]) for key in _OF_A_FRAME}
    outputs = [out.set_numbers(stems[name])]
    if settings.keep_subtracted:
        outputs.append(out.subtracted(stems[name]))
    params = {"row": row, "position": k, "hot_sigma": settings.hot_sigma}
    return Job(subtract_master, (frames.paths[k], master), tuple(outputs), params, label=f"subtract from {name}")


def _plain(value: Any) -> Any:
    """A cell of a table as JSON holds it."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, int | np.integer) else str(value)


def subtract_master(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, row: Mapping[str, Any], position: int, hot_sigma: float
) -> dict[Path, str]:
    """One frame less the master, and the statistics of both."""
    known = {key: math.nan if value is None else value for key, value in row.items()}
    made = subtract(inputs[0], inputs[1], hot_sigma)
    digests = {outputs[0]: write_json(outputs[0], record(made, inputs[1], known, position))}
    if len(outputs) > 1:
        digests[outputs[1]] = write_subtracted(outputs[1], made, inputs[1], known, position)
    return digests


def tabulate(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, hot_sigma: float) -> dict[Path, str]:
    """One row a frame; the master in the meta."""
    table = table_of([read_json(path) for path in inputs[1:]])
    facts = read_facts(inputs[0])
    table.meta["master"] = {"combine": facts.combine, "frames": facts.frames}
    table.meta["master"] |= {name: _plain(value) for name, value in of_master(inputs[0], hot_sigma).items()}
    return {outputs[0]: write_table(outputs[0], table)}


def _picture_jobs(
    out: OutputDir,
    settings: Settings,
    frames: FrameSet,
    position: int,
    window: tuple[int, int, int, int],
    master: Path,
    stems: Mapping[str, str],
) -> Iterator[Job]:
    kind, name = str(frames.rows[0]["kind"]), frames.names[position]
    points = {"kind": settings.stretch, "black": settings.black_point, "white": settings.white_point}
    black, white = settings.residual_points or (None, None)
    rest = {"kind": settings.residual_stretch, "black": black, "white": white}
    told = {"exposure_s": float(np.mean(frames.numbers("exposure_s"))), "kind": kind, "window": list(window)}
    pair = tuple(out.set_picture(f"master_{kind}{suffix}") for suffix in ("", "_window"))
    yield Job(draw_master, (master,), pair, {**told, "points": points}, label="pictures of the master")
    chosen = tuple(
        out.set_picture(what)
        for what in (f"representative_{kind}", f"subtracted_{kind}", f"subtracted_{kind}_window", "histogram")
    )
    both = {**told, "points": points, "rest": rest}
    inputs = (frames.paths[position], master)
    yield Job(draw_frame, inputs, chosen, {**both, "name": name}, label=f"pictures of {name}")
    yield Job(
        draw_statistics, (out.set_statistics,), (out.set_picture("statistics"),), {"kind": kind}, label="statistics"
    )
    for path, own in zip(frames.paths, frames.names, strict=True) if settings.pictures == "all" else ():
        outputs = tuple(out.frame_picture(stems[own], what) for what in ("frame", "subtracted"))
        yield Job(draw_frame, (path, master), outputs, {**both, "name": own}, label=f"pictures of {own}")


def _stretch(image: Any, points: Mapping[str, Any], master: Path | None = None) -> Stretch:
    """Of a master and its frames where `master` is given, else of what is left of one."""
    kind: Kind = points["kind"]
    noise = 0.0 if master is None else read_facts(master).noise_adu
    options: dict[str, Any] = {"about_zero": master is None, "margin": FRAME_MARGIN * noise}
    try:
        return chosen_points(image, kind, points["black"], points["white"], **options)
    except ValueError as error:
        raise SettingsError(str(error), where="characterize", do="Give --black_point and --white_point") from None


def _saved(figures: Mapping[Path, Callable[[], Figure]]) -> dict[Path, str]:
    """Draw and write pictures one after the other."""
    digests = {}
    for path, draw in figures.items():
        figure = draw()
        digests[path] = replace_file(path, lambda stream, f=figure: save_png(f, stream))  # type: ignore[misc]
    return digests


def _place(facts: MasterFacts, exposure_s: float) -> str:
    """'−10.0 °C, 300 s'; frames without a temperature have their exposure alone."""
    return cell_name(facts.temperature_c, exposure_s) if math.isfinite(facts.temperature_c) else f"{exposure_s:g} s"


def draw_master(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    exposure_s: float,
    kind: str,
    window: list[int],
    points: Mapping[str, Any],
) -> dict[Path, str]:
    """The master, whole and in the window."""
    (value,) = read_planes(inputs[0], ["SCI"])
    facts = read_facts(inputs[0])
    stretch = _stretch(value, points, inputs[0])
    title = f"Master {kind}, {_place(facts, exposure_s)}"
    said = f"{facts.combine} of {facts.frames} frames"
    r0, r1, c0, c1 = window
    part = f"{said}, rows {r0} to {r1 - 1}, columns {c0} to {c1 - 1}"
    return _saved(
        {
            outputs[0]: lambda: stretched_image(value, stretch, title, said, outline=(r0, r1, c0, c1)),
            outputs[1]: lambda: stretched_image(value, stretch, title, part, window=(r0, r1, c0, c1)),
        }
    )


def draw_frame(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    exposure_s: float,
    kind: str,
    window: list[int],
    points: Mapping[str, Any],
    rest: Mapping[str, Any],
    name: str,
) -> dict[Path, str]:
    """One frame, and the frame less the master; with four outputs the window of that and the histograms as well."""
    raw, residual = residual_of(inputs[0], inputs[1])
    (value,) = read_planes(inputs[1], ["SCI"])
    stretch, flat = _stretch(value, points, inputs[1]), _stretch(residual, rest)
    facts = read_facts(inputs[1])
    place = _place(facts, exposure_s)
    title, less = f"One {kind}, {place}", f"One {kind} less the master, {place}"
    r0, r1, c0, c1 = window
    part = f"{name}, rows {r0} to {r1 - 1}, columns {c0} to {c1 - 1}"
    figures: dict[Path, Callable[[], Figure]] = {
        outputs[0]: lambda: stretched_image(raw, stretch, title, name),
        outputs[1]: lambda: stretched_image(residual, flat, less, name, outline=(r0, r1, c0, c1)),
    }
    if len(outputs) > 2:
        made: dict[str, Any] = {"noise": facts.noise_adu, "frames": facts.frames, "method": facts.combine}
        if np.ptp(facts.expected_adu) > 0.02 * facts.noise_adu:  # levels differ: the form is another
            made["frames"] = 0
        points_drawn = (stretch.black, stretch.white)
        figures[outputs[2]] = lambda: stretched_image(residual, flat, less, part, window=(r0, r1, c0, c1))
        figures[outputs[3]] = lambda: before_and_after(
            raw, residual, value, f"{name}, before and after", points=points_drawn, **made
        )
    return _saved(figures)


def draw_statistics(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, kind: str) -> dict[Path, str]:
    """Level, noise and hot pixels of every frame."""
    rows = [dict(zip(r.colnames, r.values(), strict=True)) for r in read_table(inputs[0])]
    return _saved({outputs[0]: lambda: set_statistics(rows, f"{len(rows)} {kind} frames before and after")})


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """What was combined, what was left out, noise before and after against what is expected."""
    table = read_table(out.frame_set)
    left_out = Counter(str(r["reason"]) for r in table if str(r["status"]) == LEFT_OUT)
    statistics = read_table(out.set_statistics)
    master = statistics.meta["master"]
    before, after, expected = (
        float(np.median(statistics[name])) for name in ("before_sigma_adu", "after_sigma_adu", "expected_sigma_adu")
    )
    lines = [("master", f"{master['combine']} of {master['frames']} frames, median {master['median_adu']:g} ADU")]
    lines += [("sigma", f"{before:.2f} ADU before, {after:.2f} after, {expected:.2f} expected after")]
    hot = [int(np.median(statistics[name])) for name in ("before_hot", "after_hot")]
    lines += [("hot pixels", f"{hot[0]:,} before, {hot[1]:,} after (median frame)")]
    lines += [("look at", text) for text in _odd(statistics, after)]
    lines += [
        ("left out", f"{count} {'frame' if count == 1 else 'frames'}: {reason}")
        for reason, count in left_out.most_common(MOST_LINES)
    ]
    return [*lines, ("products", str(out.characterized))]


def _odd(table: Any, after: float) -> list[str]:
    """What does not look like one set of alike frames."""
    told = []
    noisy = [str(r["file"]) for r in table if float(r["sigma_ratio"]) > NOISIER]
    if noisy:
        more = f" and {len(noisy) - 3} more" if len(noisy) > 3 else ""
        told.append(f"noisier than expected by 10 % or more: {', '.join(noisy[:3])}{more}")
    levels = np.asarray(table["before_median_adu"], np.float64)
    if np.ptp(levels) > DRIFT * after > 0:
        told.append(f"levels from {levels.min():.1f} to {levels.max():.1f} ADU: more than the noise of a pixel")
    readings = np.asarray(table["temperature_c"], np.float64)
    readings = readings[np.isfinite(readings)]
    if readings.size and np.ptp(readings) > WARMER_C:
        told.append(f"temperatures from {readings.min():.1f} to {readings.max():.1f} °C")
    return told
