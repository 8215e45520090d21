"""The index against the frames it was made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import simulated
import xxhash
from astropy.io import fits
from helpers import CAMPAIGN, Campaign, labels, make_campaign, run, run_well, table

from darkpipe.errors import FrameError, SettingsError


def test_every_frame_stands_in_the_index_as_it_was_taken(finished: Campaign) -> None:
    index = table(finished.out / "index.ecsv")
    shots = simulated.shots(CAMPAIGN)
    assert list(index["file"]) == [f"frame_{n:04d}.fits" for n in range(1, len(shots) + 1)]
    assert set(index["status"]) == {"accepted"}
    assert not any(index["reason"])
    assert list(index["kind"]) == [s.kind for s in shots]
    assert list(index["exposure_s"]) == [s.exposure_s for s in shots]
    assert list(index["temperature_c"]) == [s.temperature_c for s in shots]
    assert list(index["set_point_c"]) == [s.temperature_c for s in shots]
    assert set(index["rows"]) == {48}
    assert set(index["cols"]) == {40}
    assert set(index["egain_e_per_adu"]) == {0.8}
    assert set(index["configuration"]) == {"Simulated-CCD_g100_o50_b1_48x40"}
    assert set(index["campaign"]) == {""}
    assert index.meta["root"] == "../raw"


def test_pixels_are_measured(finished: Campaign) -> None:
    for row in table(finished.out / "index.ecsv")[::7]:
        path = finished.raw / row["file"]
        image = fits.getdata(path).astype(int)
        assert row["maximum_raw"] == image.max()
        assert row["median_raw"] == pytest.approx(np.median(image), abs=0.5)  # of integers; ours is interpolated
        low, high = np.quantile(image, [0.158655, 0.841345])
        assert row["sigma_raw"] == pytest.approx((high - low) / 2, rel=0.15)
        corners = (image[:6, :5], image[:6, -5:], image[-6:, :5], image[-6:, -5:])
        for name, box in zip(("tl", "tr", "bl", "br"), corners, strict=True):
            middle = np.sort(box, axis=None)[14:16]  # of 30 pixels; a histogram may say any value between
            assert middle[0] - 0.5 <= row[f"corner_{name}_raw"] <= middle[1] + 0.5
        assert row["n_low"] == (image == 0).sum()
        assert row["n_high"] == (image == 65535).sum()
        assert row["digest"] == xxhash.xxh3_128_hexdigest(path.read_bytes())
        assert (row["dtype"], row["divisor"], bool(row["constant"])) == ("uint16", 1, False)


def test_one_survey_a_frame(finished: Campaign) -> None:
    assert len(list((finished.out / "survey").rglob("*.json"))) == len(simulated.shots(CAMPAIGN))


@pytest.fixture
def small(tmp_path: Path) -> Campaign:
    return make_campaign(
        tmp_path, rows=16, cols=12, temperatures_c=(-10.0,), exposures_s=(10.0,), n_biases=2, n_darks=2
    )


def index_only(campaign: Campaign, **load_data: object) -> list[tuple[str, str, str]]:
    run_well(campaign, chosen={"until_step": 1}, load_data=load_data)
    return [(str(r["file"]), str(r["status"]), str(r["reason"])) for r in table(campaign.out / "index.ecsv")]


def test_a_filter_that_is_not_expected_is_a_reason(small: Campaign) -> None:
    fits.setval(small.raw / "frame_0003.fits", "FILTER", value="Ha")
    rows = index_only(small, expect_filter="Ha")
    assert [status for _, status, _ in rows] == ["rejected", "rejected", "accepted", "rejected"]
    assert "FILTER" in rows[0][2]
    assert "Ha" in rows[0][2]


def test_a_synonym_is_read_first(small: Campaign) -> None:
    for path in small.raw.glob("*.fits"):
        fits.setval(path, "MYTEMP", value=-7.0)
        fits.delval(path, "CCD-TEMP")
        fits.delval(path, "SET-TEMP")
    assert {s for _, s, _ in index_only(small)} == {"rejected"}
    assert {s for _, s, _ in index_only(small, keyword_synonyms={"temperature": ["MYTEMP"]})} == {"accepted"}
    assert set(table(small.out / "index.ecsv")["temperature_c"]) == {-7.0}


def test_short_darks_are_biases_where_the_setting_says_so(small: Campaign) -> None:
    index_only(small, bias_max_exposure_s=10.0)
    assert set(table(small.out / "index.ecsv")["kind"]) == {"bias"}


def test_the_same_pixels_twice_count_once(small: Campaign) -> None:
    (small.raw / "again").mkdir()
    shutil.copy(small.raw / "frame_0004.fits", small.raw / "again" / "other_name.fits")
    rows = index_only(small)
    assert [(f, s) for f, s, _ in rows if s == "rejected"] == [("frame_0004.fits", "rejected")]
    assert "again/other_name.fits" in next(reason for f, _, reason in rows if f == "frame_0004.fits")


def test_products_inside_of_the_folder_of_frames_are_no_frames(small: Campaign) -> None:
    inside = Campaign(small.root, small.sensor)
    for _ in range(2):
        report = run(inside, chosen={"until_step": 3}, output_dir=small.raw / "made")
        report.raise_for_failure()
    assert labels(report) == []
    assert len(table(small.raw / "made" / "index.ecsv")) == 4
    assert (small.raw / "made" / "dark_masks_by_temp" / "darks_T-10.0C_texp10s.fits").is_file()


@pytest.mark.parametrize(
    ("folder", "kind", "word"),
    [("nowhere", SettingsError, "there is no such folder"), ("empty", FrameError, "no FITS file")],
)
def test_a_folder_without_frames(small: Campaign, folder: str, kind: type[Exception], word: str) -> None:
    (small.root / "empty").mkdir()
    report = run(small, load_data={"basepath": small.root / folder})
    assert [type(f.error) for f in report.failures] == [kind]
    assert word in str(report.failures[0])
    assert str(small.root / folder) in str(report.failures[0])


def test_nothing_acceptable_says_why(small: Campaign) -> None:
    for path in small.raw.glob("*.fits"):
        fits.setval(path, "IMAGETYP", value="Light Frame")
    report = run(small)
    assert report.exit_code == 1
    assert set(table(small.out / "index.ecsv")["status"]) == {"rejected"}
