"""The report of real runs: what it holds, when it is written anew, campaigns of all kinds."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from aged_sensor import Ageing, aged, write_later
from astropy.io import fits
from helpers import CAMPAIGN, CELL_NAMES, CELLS, PICTURES, Campaign, labels, make_campaign, run_well, steps_run, table
from PIL import Image

from darkpipe.files.atomic import file_digest
from master_controller import MasterController

WRITE = {"write": True}
ALL = ("Summary", "Campaign", "Master darks and residuals", "Hot pixels", "Sensor", "Model", "Accuracy", "Notes",
       "Products", "Settings and versions")  # fmt: skip
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Headings, pictures and texts of a page; every tag must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.images.append(values)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "h2" in self._open:
            self.headings.append(data)
        if not {"style", "script"} & set(self._open):
            self.words.append(data)


def report_of(campaign: Campaign, folder: str = "") -> str:
    return (campaign.out / folder / "evaluation" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(reported: Campaign) -> Page:
    return Page(report_of(reported))


def test_it_has_all_its_parts(page: Page, reported: Campaign) -> None:
    assert tuple(page.headings) == ALL
    assert len(page.ids) == len(set(page.ids))
    assert "Dark model of Simulated CCD" in page.text
    assert f"{len(CELLS) * CAMPAIGN.n_darks} darks" in page.text
    for row in table(reported.out / "evaluation" / "evaluation.ecsv"):
        if row["model"] == "two_component":
            assert f"{row['pull_spread_unflagged']:.3f}" in page.text


def test_every_picture_says_what_it_shows_and_is_in_the_page(page: Page) -> None:
    assert len(page.images) > 20
    for image in page.images:
        assert str(image["src"]).startswith("data:image/png;base64,")
        assert len(str(image["alt"])) > 15
        assert int(str(image["width"])) > 20
    large = [image["alt"] for image in page.images if int(str(image["width"])) > 300]
    assert len(large) == len(set(large))


def test_nothing_is_loaded_from_elsewhere(reported: Campaign) -> None:
    text = report_of(reported)
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_digests_are_those_of_the_files(page: Page, reported: Campaign) -> None:
    for name in (
        "dark_model/model.yaml",
        "dark_model/bad_pixels_siril.lst",
        "dark_model/bad_pixels_pixinsight.txt",
        f"dark_masks_by_temp/darks_{CELL_NAMES[0]}.fits",
        f"synthetic/synthetic_dark_{CELL_NAMES[-1]}.fits",
        "evaluation/evaluation.ecsv",
        "index.ecsv",
    ):
        digest = file_digest(reported.out / name)
        assert re.search(rf"{re.escape(name)} [^ ]+ [kMB]+ [a-z_]+ \d+ {digest}", page.text), name


def test_settings_of_the_run_are_told_without_the_place_of_the_machine(page: Page, reported: Campaign) -> None:
    assert "load_data.basepath ../raw" in page.text
    assert "fit_dark_model.model: auto" in page.text
    assert str(reported.root) not in report_of(reported)


def test_pictures_are_kept_for_print(reported: Campaign) -> None:
    folder = reported.out / "evaluation"
    names = {path.name for path in folder.glob("*.png")}
    new = {"grid_mae", "grid_mape", "grid_noise_floor", "grid_pulls", "hot_pixel_curve", "dark_vs_exposure"}
    assert {f"{name}.png" for name in new | {"dark_vs_temperature", "bias_levels"}} <= names
    assert {
        f"{kind}_{CELL_NAMES[-1]}.png" for kind in ("master_dark", "residual", "mae", "mape", "synthetic_dark")
    } <= names
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.info["dpi"] == pytest.approx((150, 150), abs=0.1), path.name


def test_a_second_run_writes_nothing(reported: Campaign) -> None:
    report = run_well(reported, evaluate_model=PICTURES, report=WRITE)
    assert report.up_to_date
    assert ("report", str(reported.out / "evaluation" / "report.html")) in report.summaries[-1][1]


def test_it_is_written_anew_when_a_table_changed_and_only_then(reported: Campaign, tmp_path: Path) -> None:
    campaign = reported.copied_to(tmp_path / "campaign")
    first = report_of(campaign)
    report = run_well(campaign, evaluate_model=PICTURES, report=WRITE, chosen={"force": 19})
    assert set(steps_run(report)) == {"report"}
    assert report_of(campaign) == first  # the same bytes
    bad = campaign.raw / "zz_light.fits"
    shutil.copy(campaign.frames_of(-5.0, 100.0)[0], bad)
    fits.setval(bad, "IMAGETYP", value="Light <script>alert(1)</script>")
    report = run_well(campaign, evaluate_model=PICTURES, report=WRITE)
    assert set(labels(report, "report")) <= {"levels of the biases", "report.html"}  # the index holds their dates
    text = report_of(campaign)
    assert "zz_light.fits" in text
    assert "<script>alert" not in text


def test_a_report_alone_needs_no_frames(reported: Campaign, tmp_path: Path) -> None:
    campaign = reported.copied_to(tmp_path / "campaign")
    shutil.rmtree(campaign.raw)
    (campaign.out / "evaluation" / "report.html").unlink()
    MasterController({"output_dir": campaign.out}).run("report").raise_for_failure()
    assert tuple(Page(report_of(campaign)).headings) == ALL


def test_without_the_wish_there_is_none(plain: Campaign) -> None:
    assert not (plain.out / "evaluation" / "report.html").exists()


def test_there_must_be_something_to_tell(tmp_path: Path) -> None:
    report = MasterController({"output_dir": tmp_path / "out"}).run("report")
    assert report.exit_code == 1
    assert "nothing to report" in str(report.failures[0].error)


SMALL = {"rows": 24, "cols": 20, "n_biases": 3, "n_darks": 2, "hot_fraction": 0.02}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exposures_s": (100.0,)}, "exp_1d"),
        ({"temperatures_c": (-5.0,)}, "exp_t"),
        ({"n_biases": 0}, "no bias"),
        ({"temperatures_c": (-10.0, 0.0), "exposures_s": (30.0, 300.0), "n_darks": 1}, "hold one frame"),
    ],
    ids=["one exposure", "one temperature", "no biases", "four frames"],
)
def test_campaigns_of_all_kinds_have_one(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, **{**SMALL, **changes})
    run_well(campaign, report=WRITE)
    page = Page(report_of(campaign))
    assert {"Summary", "Campaign", "Model", "Accuracy", "Products"} <= set(page.headings)
    assert said in page.text
    assert "nan" not in page.text.lower().split()


def test_each_configuration_has_its_own(tmp_path: Path) -> None:
    both = make_campaign(tmp_path, **SMALL)
    other = make_campaign(tmp_path / "other", **SMALL, gain_setting=200.0, gain_e_per_adu=0.4, seed=2)
    shutil.move(other.raw, both.raw / "g200")
    run_well(both, report=WRITE)
    for gain in (100, 200):
        page = Page(report_of(both, f"Simulated-CCD_g{gain}_o50_b1_24x20"))
        assert f"Simulated-CCD_g{gain}_o50_b1_24x20" in page.text
        assert f"{9 * 2} darks, {3 * 3} biases; 0 rejected" in page.text


def test_one_cell_carries_no_model_and_can_be_told_of(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, **{**SMALL, "temperatures_c": (-5.0,), "exposures_s": (100.0,)})
    MasterController({"output_dir": campaign.out, "load_data": {"basepath": campaign.raw}}).run("full")
    assert not (campaign.model / "model.yaml").exists()
    MasterController({"output_dir": campaign.out}).run("report").raise_for_failure()
    page = Page(report_of(campaign))
    assert "No model was fitted" in page.text
    assert "Accuracy" not in page.headings


def test_a_campaign_that_grew_tells_whether_the_sensor_aged(work: Campaign) -> None:
    changed = aged(work.sensor, Ageing(growth=1.2)).sensor
    write_later(work.raw, changed, (-10.0, 0.0), (100.0, 300.0), darks=3, biases=4)
    run_well(work, report=WRITE)
    page = Page(report_of(work))
    assert "Ageing" in page.headings
    verdict = yaml.safe_load((work.out / "new_frames" / "check" / "verdict.yaml").read_text())
    assert f"New frames against the model: {verdict['verdict']}." in page.text
    assert verdict["verdict"] in ("drifted", "stale")
    assert "rate of bulk pixels, now / model" in page.text
    assert any("Dark rates" in str(image["alt"]) for image in page.images)


def test_glow_is_shown_where_there_is_some(tmp_path: Path) -> None:
    bright = {"rows": 96, "cols": 96, "n_darks": 4, "n_biases": 6, "glow_rate_adu_s": 3.0}
    campaign = make_campaign(tmp_path, **bright)
    run_well(campaign, report=WRITE)
    assert (campaign.out / "evaluation" / "glow_map.png").is_file()
    page = Page(report_of(campaign))
    assert any("Map of amplifier glow" in str(image["alt"]) for image in page.images)


def test_new_frames_against_a_model_from_elsewhere(reported: Campaign, tmp_path: Path) -> None:
    new = Campaign(tmp_path / "new", reported.sensor)
    new.raw.mkdir(parents=True)
    for path in (*reported.frames_of(-5.0, 100.0), *reported.raw.glob("frame_000[1-8].fits")):
        shutil.copy(path, new.raw)
    given = {"output_dir": new.out, "evaluate_model": {"model_dir": reported.out, "pictures": False}}
    flags = {"load_data": {"basepath": str(new.raw)}}
    MasterController(given, flags=flags).run("evaluation_only").raise_for_failure()
    page = Page(report_of(new))
    assert "Held-out error none: the fit has seen these frames" in page.text
    assert "Error on new frames" not in page.text
    for path in reported.frames_of(-5.0, 100.0):
        with fits.open(new.raw / path.name, mode="update") as units:
            units[0].header["OBSERVER"] = "somebody else"  # as good as another frame
    MasterController(given, flags=flags).run("evaluation_only").raise_for_failure()
    page = Page(report_of(new))
    assert "the fit has not seen these frames" in page.text
    assert "Error on new frames" in page.text
    assert "/campaign/out/dark_model/model.yaml" in page.text.replace("\\", "/")
