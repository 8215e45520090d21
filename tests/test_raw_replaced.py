"""Raw frames that somebody replaces, cuts, deletes or adds while a run is at work, above all between the step that
reads their headers and those that combine their pixels: never the pixels of one under the header of another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import BRIGHTEST, Campaign, once_the_survey_is_done, products, run, run_well, table

from darkpipe.errors import PipelineError
from darkpipe.files.layout import OutputDir

CELL, OTHER = (0.0, 300.0), (-10.0, 30.0)  # the brightest, and the darkest: a mean of both is far from either


def victim(campaign: Campaign) -> Path:
    return campaign.frames_of(*CELL)[1]


def replaced(campaign: Campaign) -> None:
    victim(campaign).write_bytes(campaign.frames_of(*OTHER)[1].read_bytes())


def shortened(campaign: Campaign) -> None:
    victim(campaign).write_bytes(victim(campaign).read_bytes()[:4000])


def deleted(campaign: Campaign) -> None:
    victim(campaign).unlink()


MEASURED = ("reference.yaml", "sensor_summary.ecsv")
"""Hold a measured gain that stays while it moves by less than its error: not the same from the beginning."""


def made_of(campaign: Campaign) -> dict[str, bytes]:
    return {name: content for name, content in products(campaign.out).items() if name not in MEASURED}


WAYS = {replaced: "another one", shortened: "another one", deleted: "an input is missing"}


def as_from_the_beginning(campaign: Campaign, folder: Path) -> dict[str, bytes]:
    """Products of these frames in an output directory that knows nothing of others."""
    copy = campaign.copied_to(folder)
    (copy.out / "journal.jsonl").unlink()
    for path in [p for p in copy.out.rglob("*") if p.is_file()]:
        path.unlink()
    run_well(copy)
    return made_of(copy)


@pytest.mark.parametrize("way", WAYS)
def test_later_steps_take_no_frame_that_step_1_does_not_know(work: Campaign, way: Callable[[Campaign], None]) -> None:
    before = products(work.out)
    way(work)
    for first in (2, 3):
        report = run(work, chosen={"from_step": first})
        assert [WAYS[way] in str(failure.error) for failure in report.failures] == [True]
        assert str(victim(work)) in str(report.failures[0].error)
        assert products(work.out) == before


def test_and_a_whole_run_makes_of_the_new_frame_what_it_is(work: Campaign, tmp_path: Path) -> None:
    replaced(work)
    with pytest.raises(PipelineError, match=r"another one than an earlier step has read.*Run without --from_step"):
        run_well(work, chosen={"from_step": 2})
    run_well(work)
    assert made_of(work) == as_from_the_beginning(work, tmp_path / "anew")


def test_a_frame_that_was_merely_copied_is_the_same(work: Campaign) -> None:
    content = victim(work).read_bytes()
    victim(work).unlink()
    victim(work).write_bytes(content)
    report = run_well(work, chosen={"from_step": 2})
    assert report.jobs == []


@pytest.mark.parametrize("held", [False, True], ids=["surveyed in this run", "surveyed before"])
@pytest.mark.parametrize("way", WAYS)
def test_a_frame_that_changes_in_the_middle_of_a_run(
    work: Campaign, tmp_path: Path, way: Callable[[Campaign], None], held: bool
) -> None:
    out = OutputDir(work.out)
    if held:
        run_well(work)  # nothing to survey in the run that follows
        out.master_dark(BRIGHTEST).unlink()
        out.biases.unlink()
    else:
        out.index.unlink()
        victim(work).touch()
        out.master_dark(BRIGHTEST).unlink()
    with once_the_survey_is_done(lambda: way(work)):
        report = run(work)
    assert report.failures
    assert str(victim(work)) in " ".join(str(failure.error) for failure in report.failures)
    assert not out.master_dark(BRIGHTEST).exists()
    run_well(work)
    assert made_of(work) == as_from_the_beginning(work, tmp_path / "anew")


def test_frames_that_come_and_go_while_they_are_listed(work: Campaign, tmp_path: Path) -> None:
    """As a camera program and a tidy user do it: runs end with a message, or with what was there; at last with all."""
    steady, guests = victim(work).read_bytes(), [work.raw / f"guest_{number}.fits" for number in range(5)]
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for path in guests:
                path.write_bytes(steady)
            for path in guests:
                path.unlink()

    restless = threading.Thread(target=come_and_go)
    restless.start()
    try:
        for _ in range(4):
            report = run(work, chosen={"until_step": 3})
            for failure in report.failures:
                assert "guest_" in str(failure.error)
    finally:
        stop.set()
        restless.join()
    run_well(work)
    assert made_of(work) == as_from_the_beginning(work, tmp_path / "anew")


def test_products_of_another_run_are_no_frames(work: Campaign) -> None:
    """The folder around everything as --basepath, with all that an earlier run has made."""
    names = {path.name for path in work.raw.glob("*.fits")}
    elsewhere = work.root / "elsewhere"
    run_well(work, chosen={"until_step": 1}, load_data={"basepath": work.root}, output_dir=elsewhere)
    found = table(OutputDir(elsewhere).index)
    assert any(str(name).startswith("out/") for name in found["file"])
    assert {Path(str(row["file"])).name for row in found if row["status"] == "accepted"} == names
