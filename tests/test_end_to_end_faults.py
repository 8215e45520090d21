"""Files as they are met in the wild, in the middle of a campaign."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from bad_frames import CASES, Case, can_read_everything, write_all, write_case
from helpers import Campaign, differing, inputs_of, make_campaign, products, run, run_well, table
from simulated import PRESETS

TINY = PRESETS["tiny"]
CELL = "T-10.0C_texp100s"
CONFIGURATION = "Simulated-CCD_g100_o50_b1_32x32"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A campaign of the preset that the bad frames belong to, after a full run."""
    campaign = make_campaign(tmp_path_factory.mktemp("clean"), TINY)
    run_well(campaign)
    return campaign


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, dict[str, Case]]:
    """The same campaign with every bad file among its frames, after a full run."""
    campaign = make_campaign(tmp_path_factory.mktemp("mixed"), TINY)
    cases = write_all(campaign.raw / "bad", campaign.sensor)
    run(campaign)
    return campaign, cases


@pytest.mark.parametrize("name", CASES)
def test_each_file_ends_as_expected(mixed: tuple[Campaign, dict[str, Case]], name: str) -> None:
    campaign, cases = mixed
    if name not in cases:
        assert name == "unreadable"
        assert can_read_everything()
        pytest.skip("this user can read any file")
    expected = cases[name]
    key = expected.path.relative_to(campaign.raw).as_posix()
    rows = [r for r in table(campaign.out / "index.ecsv") if r["file"] == key]
    if expected.expectation == "ignored":
        assert rows == []
        return
    assert len(rows) == 1
    found = rows[0]
    if expected.expectation == "rejected":
        assert found["status"] == "rejected"
        assert re.search(expected.word, found["reason"], re.IGNORECASE), found["reason"]
        return
    assert (found["status"], found["reason"]) == ("accepted", "")
    apart = expected.expectation == "apart"
    assert (found["campaign"] != CONFIGURATION) == apart
    mine = inputs_of(campaign.out / CONFIGURATION / "dark_masks_by_temp" / f"darks_{CELL}.fits")
    odd = [r for r in table(campaign.out / CONFIGURATION / "corrected.ecsv") if r["file"] == key and r["reason"]]
    assert (key in mine) == (not apart and not odd)
    assert not odd or expected.level == "campaign", odd


def test_the_campaign_is_carried_through_and_the_exit_code_says_that_others_were_not(
    mixed: tuple[Campaign, dict[str, Case]],
) -> None:
    campaign, _ = mixed
    assert (campaign.out / CONFIGURATION / "evaluation" / "evaluation.ecsv").is_file()
    report = run(campaign)
    assert report.exit_code == 1
    assert CONFIGURATION not in {failure.campaign for failure in report.failures}
    assert all("Traceback" not in str(failure) for failure in report.failures)
    assert all(failure.campaign for failure in report.failures)


def test_every_file_has_a_row_or_is_ignored(mixed: tuple[Campaign, dict[str, Case]]) -> None:
    campaign, _ = mixed
    listed = set(table(campaign.out / "index.ecsv")["file"])
    on_disk = {p.relative_to(campaign.raw).as_posix() for p in campaign.raw.rglob("*") if not p.is_dir()}
    for name in on_disk - listed:
        assert any(part.startswith(".") for part in Path(name).parts), name


def bad_only(campaign: Campaign, names: list[str]) -> None:
    """Cases of which nothing may reach the campaign's model."""
    for name in names:
        write_case(campaign.raw / "bad", name, campaign.sensor)


def test_rejected_and_ignored_files_leave_the_products_byte_for_byte(clean: Campaign, tmp_path: Path) -> None:
    probe = {name: write_case(tmp_path / "probe" / name, name).expectation for name in CASES}
    names = [n for n, e in probe.items() if e in ("rejected", "ignored") and not n.startswith("duplicate")]
    if can_read_everything():
        names.remove("unreadable")
    assert len(names) > 20
    dirty = Campaign(tmp_path / "dirty", clean.sensor)
    shutil.copytree(clean.raw, dirty.raw)
    bad_only(dirty, names)
    shutil.copy(clean.raw / "frame_0007.fits", dirty.raw / "zz_copy.fits")
    run_well(dirty)
    changed = differing(products(dirty.out), products(clean.out))
    assert [name for name in changed if not name.startswith("survey/")] == ["index.ecsv"]


def test_frames_of_other_configurations_leave_the_model_byte_for_byte(clean: Campaign, tmp_path: Path) -> None:
    dirty = Campaign(tmp_path / "dirty", clean.sensor)
    shutil.copytree(clean.raw, dirty.raw)
    bad_only(dirty, [n for n in CASES if n.startswith("other_") or n == "eight_bit"])
    report = run(dirty)
    made = products(dirty.out)
    ours = {k.removeprefix(f"{CONFIGURATION}/"): v for k, v in made.items() if k.startswith(CONFIGURATION)}
    theirs = {k: v for k, v in products(clean.out).items() if k in ours}
    assert len([k for k in ours if k.startswith("dark_model/")]) > 10
    assert differing(ours, theirs) == []
    assert {failure.campaign for failure in report.failures}.isdisjoint({CONFIGURATION})


def test_bad_files_that_come_later_remake_nothing(clean: Campaign, tmp_path: Path) -> None:
    later = clean.copied_to(tmp_path / "later")
    bad_only(later, ["zero_byte", "truncated_data", "not_fits", "text", "cube", "table_only", "master", "light"])
    report = run_well(later)
    assert {job.step for job in report.jobs} == {"load_data", "subtract_bias", "group_darks"}
    assert not [job.label for job in report.jobs if job.label.startswith("master ")]
