"""What is expected of a set of frames, what it is made of, how it is chosen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import raised_messages

from darkpipe.errors import DesignError, FrameError, SettingsError
from darkpipe.files.frame_set import (
    Expected,
    FrameSet,
    check_frames,
    check_select,
    parse_shape,
    parse_window,
    read_set,
    same_exposure,
)
from darkpipe.files.frames import FrameSurvey
from darkpipe.files.headers import FrameInfo
from darkpipe.files.index import index_rows, write_index
from darkpipe.files.tables import read_table

SHAPE = (40, 50)


def survey(number: int, *, rows: int = 40, cols: int = 50, **info: Any) -> FrameSurvey:
    fields = {"kind": "dark", "exposure_s": 30.0, "temperature_c": -9.9, "set_point_c": -10.0, "camera": "QHY42"}
    return FrameSurvey(
        info=FrameInfo(**{**fields, **info}), rows=rows, cols=cols, dtype="uint16", minimum=0.0, maximum=9.0,
        top_adu=65535.0, median_adu=1000.0 + number, sigma_adu=5.0, pixel_digest=f"p{number}", file_digest=f"f{number}",
    )  # fmt: skip


def make(folder: Path, *surveys: FrameSurvey, expected: Expected | None = None, **select: str) -> Path:
    """The table of frames a.fits, b.fits, … in folder/out/characterize."""
    names = [f"{chr(97 + k)}.fits" for k in range(len(surveys))]
    index = folder / "out" / "index.ecsv"
    rows = index_rows(list(zip(names, surveys, strict=True)), kinds=("bias", "dark", "light", "flat"))
    write_index(index, rows, "../raw")
    accepted = {r["file"]: s for r, s in zip(rows, surveys, strict=True) if r["status"] == "accepted"}
    out = folder / "out" / "characterize" / "frames.ecsv"
    check_frames(index, accepted, expected or Expected(), select, out)
    return out


def test_alike_frames_are_a_set(tmp_path: Path) -> None:
    found = read_set(make(tmp_path, *(survey(k) for k in range(3)), expected=Expected(SHAPE, 30.0, "")))
    assert found.names == ["a.fits", "b.fits", "c.fits"]
    assert found.paths == tuple(tmp_path / "raw" / name for name in found.names)
    assert found.shape == SHAPE
    assert found.numbers("top_raw") == [65535.0] * 3


def test_each_frame_that_is_not_as_expected_is_named(tmp_path: Path) -> None:
    surveys = [
        survey(0),
        survey(1, exposure_s=60.0),
        survey(2, rows=50, cols=40),
        survey(3, filter_name="Red "),
        survey(4, exposure_s=60.0, filter_name="Red"),
        survey(5, exposure_s=60.0),
    ]
    path = make(tmp_path, *surveys, expected=Expected(SHAPE, 30.0, "Blue"))
    with pytest.raises(FrameError) as caught:
        read_set(path)
    told = str(caught.value)
    assert "6 of 6 frames are not as expected" in told
    assert "exposure 60 s, expected 30 s; no filter, expected Blue: b.fits, f.fits" in told
    assert "50 x 40 pixels, expected 40 x 50" in told
    assert "filter Red, expected Blue: d.fits" in told
    assert str(path) in told
    rows = {r["file"]: (r["status"], r["reason"]) for r in read_table(path)}
    assert rows["e.fits"] == ("not as expected", "exposure 60 s, expected 30 s; filter Red, expected Blue")
    # the frame that is as expected is not blamed
    with pytest.raises(FrameError, match="5 of 6"):
        read_set(make(tmp_path, *surveys, expected=Expected(SHAPE, 30.0, "")))


def test_a_shape_the_other_way_round_is_hinted_at() -> None:
    row = {"rows": 40, "cols": 50, "exposure_s": 30.0, "filter": ""}
    assert Expected((50, 40)).faults(row) == ["40 x 50 pixels, expected 50 x 40 (rows first)"]
    assert Expected((60, 40)).faults(row) == ["40 x 50 pixels, expected 60 x 40"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(30.0, 30.2, True), (30.0, 30.4, False), (0.001, 0.0019, True), (0.001, 0.0021, False), (0.0, 0.0, True)],
)
def test_exposures_agree_within_one_percent_or_a_millisecond(one: float, other: float, same: bool) -> None:
    assert same_exposure(one, other) is same


@pytest.mark.parametrize(
    ("other", "told", "advice"),
    [
        ({"exposure_s": 60.0}, "2 of 30 s .a.fits, b.fits.; 1 of 60 s .c.fits.", "--select exposure=30"),
        ({"filter_name": "Red"}, "2 of no filter .*1 of filter Red", "--select filter="),
        ({"kind": "light"}, "2 of kind dark .*1 of kind light", "--select kind=dark"),
        ({"set_point_c": 0.0}, "set point -10 °C .*set point 0 °C", "--select temperature=-10"),
        ({"gain_setting": 5.0}, "QHY42_b1_40x50 .*QHY42_g5_b1_40x50", "--select configuration=QHY42_b1_40x50"),
        ({"rows": 8}, "40 x 50 pixels.*8 x 50 pixels", "--select configuration=QHY42_b1_40x50"),
    ],
)
def test_frames_that_do_not_agree_are_named_by_group(
    tmp_path: Path, other: dict[str, Any], told: str, advice: str
) -> None:
    path = make(tmp_path, survey(0), survey(1), survey(2, **other))
    with pytest.raises(DesignError, match=told) as caught:
        read_set(path)
    assert "2 groups, not one set" in str(caught.value)
    assert advice in str(caught.value)


def test_what_agrees_within_its_tolerance_is_not_blamed(tmp_path: Path) -> None:
    path = make(tmp_path, survey(0), survey(1, exposure_s=30.1, filter_name="R"), survey(2, exposure_s=30.05))
    with pytest.raises(DesignError, match=r"2 of no filter \(a\.fits, c\.fits\); 1 of filter R \(b\.fits\)") as caught:
        read_set(path)
    assert "--select exposure" not in str(caught.value)


def test_readings_may_differ_where_the_set_point_is_one(tmp_path: Path) -> None:
    found = read_set(make(tmp_path, survey(0, temperature_c=-10.4), survey(1, temperature_c=None)))
    assert len(found.names) == 2


@pytest.mark.parametrize(
    ("select", "chosen"),
    [
        ({"exposure": "30"}, "abc"),
        ({"exposure": "60.1"}, "de"),
        ({"temperature": "-10"}, "abde"),
        ({"temperature": "-10", "exposure": "30"}, "ab"),
        ({"filter": "red", "exposure": "60"}, "e"),
        ({"kind": "Dark", "gain": "10.0", "binning": "1", "exposure": "60"}, "d"),
    ],
)
def test_frames_are_chosen(tmp_path: Path, select: dict[str, str], chosen: str) -> None:
    surveys = [
        survey(0, gain_setting=10.0),
        survey(1, gain_setting=10.0),
        survey(2, set_point_c=0.0),
        survey(3, exposure_s=60.0, gain_setting=10.0),
        survey(4, exposure_s=60.0, filter_name="Red"),
    ]
    table = read_table(make(tmp_path, *surveys, **select))
    assert "".join(r["file"][0] for r in table if r["status"] == "combined") == chosen
    assert all("selected is" in r["reason"] for r in table if r["status"] == "left out")


def test_a_selection_of_nothing_one_frame_alone_and_refused_frames(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"no frame is left of 2 \(2 left out: exposure is 30 s, selected is 5\)"):
        read_set(make(tmp_path, survey(0), survey(1), exposure="5"))
    with pytest.raises(DesignError, match=r"one frame alone, a\.fits"):
        read_set(make(tmp_path, survey(0)))
    path = make(tmp_path, survey(0), survey(1), FrameSurvey(rejected="the file is empty"))
    assert len(read_set(path).names) == 2
    assert list(read_table(path)["reason"]) == ["", "", "the file is empty"]


def test_what_cannot_be_selected_by_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"cannot select frames by exposre .*Known: kind, exposure"):
        check_select({"exposre": "30"})
    with pytest.raises(SettingsError, match="'warm' is no number"):
        check_select({"temperature": "warm"})


def test_the_representative_frame(tmp_path: Path) -> None:
    rows = [{"file": f"night/{k}.fits", "median_raw": level} for k, level in enumerate((5.0, 9.0, 7.0, 6.0, 30.0))]
    frames = FrameSet(tuple(tmp_path / str(r["file"]) for r in rows), tuple(rows))
    assert frames.position("") == 2
    assert frames.position("night/4.fits") == 4
    assert frames.position("3.fits") == 3
    with pytest.raises(SettingsError, match=r"no frame of the set is called '7\.fits'.*There is: night/0\.fits"):
        frames.position("7.fits")


@pytest.mark.parametrize("text", ["2048x3072", "2048 X 3072", " 2048×3072 ", "2048,3072"])
def test_shapes(text: str) -> None:
    assert parse_shape(text) == (2048, 3072)


@pytest.mark.parametrize("text", ["", "2048", "2048x", "-5x7", "0x7", "3x4x5", "1.5x2"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(ValueError, match="rows first") as caught:
        parse_shape(text)
    raised_messages.note(caught.value)


@pytest.mark.parametrize(
    ("text", "window"),
    [("1:3,2:5", (1, 3, 2, 5)), (" 1 : 3 , 2 : 5 ", (1, 3, 2, 5)), (":,:", (0, 40, 0, 50)), ("7:,:9", (7, 40, 0, 9))],
)
def test_windows(text: str, window: tuple[int, ...]) -> None:
    assert parse_window(text, SHAPE) == window


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("5", "ROW0:ROW1,COL0:COL1"), ("1:2", "ROW0"), ("-1:2,3:4", "ROW0"), ("5:5,0:9", "empty"), ("9:3,0:9", "empty"),
        ("0:41,0:9", "does not lie in frames of 40 rows and 50 columns"), ("40:,:", "does not lie"),
        ("0:9,50:51", "does not lie"),
    ],
)  # fmt: skip
def test_what_is_no_window(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        parse_window(text, SHAPE)
    raised_messages.note(caught.value)


def test_a_stated_saturation_counts(tmp_path: Path) -> None:
    found = read_set(make(tmp_path, survey(0, saturation_adu=50000.0), survey(1)))
    assert found.numbers("top_raw") == [50000.0, 65535.0]
    assert not math.isnan(found.numbers("median_raw")[0])
