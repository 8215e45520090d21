"""Bad input of every kind: some of it here, all of it in `benchmarks/robustness.py`, and by their names those inputs
that ever failed."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
from corpus import frames, judging, targets
from corpus.document import Input, file_bytes, units_of
from corpus.judging import Taken, WronglyTaken
from corpus.targets import ERROR, GOOD, REFUSED, TARGETS, listed

from benchmarks import robustness, robustness_input
from benchmarks.robustness_rows import Row

EVERY = 25  # of the directed inputs

EVER_FAILED = {
    "frames": (
        *("NAXIS1 twice", "NAXIS2 twice", "NAXIS = 1000000000", "999 axes of 1E300", "BLANK = -31768"),
        *("a table of 1E300 rows before the image", "a table of 999999999999 rows before the image"),
        *("int32 with BZERO = 9223372036854775808", "int64 with BZERO = 9223372036854775808", "uint64 near its top"),
        *(
            "a second primary of 10^60 axes",
            "SIMPLE = = =",
            "SIMPLE = = = before an image",
            "PCOUNT = 999 with bytes to spare",
        ),
        "a stray letter behind SIMPLE, in gzip",
        *("no FITS: ZIP", "10,000 empty units", "200,000 blank cards", "20,000 comments"),
    ),
    "compressed frames": (
        "RICE_1: ZCMPTYPE = 'PLIO_1  '",
        "NOCOMPRESS: ZCMPTYPE = 'PLIO_1  '",
        "PLIO_1 spoiled 7",
        "SIMPLE = F before the tiles",
    ),
    "settings": (
        *("no date", "a time that is none", "a bad int", "an empty int", "an empty float", "a bad float", "a bad bool"),
        *("a bad timestamp", "a mapping in itself", "laughs for a value", "5,000 deep lists", "5,000 deep mappings"),
        *(
            "a huge int",
            "base 60",
            "nobody's home",
            "NUL in a path",
            "NUL in a folder",
            "half a surrogate",
            "100,000 keys",
        ),
        *("a BOM inside", "a merge of itself", "20 MiB"),
    ),
    "images in JSON": ("error --5", "error 555555555"),
    "answers over HTTP": ("an answer: TLS", "an answer: zeros"),
    "journal of jobs": (
        *("line 1: file[1] = '[]'", "line 1: file[4] = 'nan'", "line 2: file[1] = 'None'", "line 2: file[1] = '1.5'"),
        *("line 2: file[1] = 'a\\x00b'", "line 2: file[1] = '\\ud800'", "line 4: job = '[]'", "line 4: job = '{}'"),
        *("b'[[[[[[[[[[[[[[[[[[[[' before line 0", 'b\'{"a":{"a":{"a":{"a":\' before line 0'),
    ),
    "journal of frames": ("line 0: frames = 'a\\x00b'", "line 0: frames = '\\ud800'", "line 0: frames = 'a\\nb'"),
}
"""Named here once they were mended; the first failure of each is told by the message that names it."""


def named(name: str, item: str) -> Input:
    return next(found for found in listed(name) if found.name == item)


@pytest.mark.parametrize(("name", "item"), [(name, item) for name, items in EVER_FAILED.items() for item in items])
def test_what_ever_failed(name: str, item: str, tmp_path: Path) -> None:
    assert TARGETS[name].feed(named(name, item), tmp_path) in (GOOD, REFUSED, ERROR)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "bombs"])
def test_some_of_every_kind(name: str, tmp_path: Path) -> None:
    target, known = TARGETS[name], len(listed(name))
    numbers = [*range(0, known, EVERY), *(range(known, known + 20) if target.chance else ())]
    outcomes = {target.feed(target.make(1, number), tmp_path) for number in numbers}
    assert outcomes <= {GOOD, REFUSED, ERROR}
    assert len(outcomes) > 1


def test_the_same_number_is_the_same_input() -> None:
    for name in ("frames", "settings", "journal of frames", "images in JSON"):
        target, number = TARGETS[name], len(listed(name)) + 7
        assert target.make(1, number) == target.make(1, number)
        assert target.make(1, number).content != target.make(1, number + 1).content
        assert target.make(1, number).content != target.make(2, number).content


def test_names_tell_inputs_apart() -> None:
    for name, items in EVER_FAILED.items():
        known = [item.name for item in listed(name)]
        assert all(item in known for item in items), name


def test_bombs_take_no_memory() -> None:
    """In a process of its own, whose memory is limited."""
    tally = robustness_input.Tally()
    robustness_input.feed("bombs", 9, 60, 9, tally, threading.Lock())
    assert tally.broken == []
    assert tally.counts["refused"] >= 4


# --- the judge itself
def taken(**values: object) -> Taken:
    fields = {"values": frames.PIXELS, "hdu": 0, "exposure_s": 120.0, "temperature_c": -10.25, "kind": "dark"}
    return Taken(**fields | values)  # type: ignore[arg-type]


GOOD_DARK = Input("a good dark", file_bytes([frames.dark()]), "accepted", frames.TRUTH)


def test_a_frame_that_is_right_is_judged_right() -> None:
    judging.check_accepted(GOOD_DARK, taken())
    judging.check_accepted(dataclasses.replace(GOOD_DARK, fate="any"), taken())


@pytest.mark.parametrize("fate", ["accepted", "any"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"values": frames.PIXELS + np.uint16(1)},
        {"values": frames.PIXELS.T.copy()},
        {"exposure_s": 121.0},
        {"exposure_s": -1.0},
        {"exposure_s": float("nan")},
        {"temperature_c": -20.0},
        {"temperature_c": float("inf")},
        {"temperature_c": 150.0},
    ],
)
def test_a_frame_that_is_wrong_is_judged_wrong(wrong: dict[str, object], fate: str) -> None:
    with pytest.raises(WronglyTaken):
        judging.check_accepted(dataclasses.replace(GOOD_DARK, fate=fate), taken(**wrong))


def test_what_must_be_refused_must_not_be_taken() -> None:
    with pytest.raises(WronglyTaken, match="must be refused"):
        judging.check_accepted(dataclasses.replace(GOOD_DARK, fate="refused"), taken())
    with pytest.raises(WronglyTaken, match="is good"):
        targets.refusal(GOOD_DARK, "a reason in words")


@pytest.mark.parametrize("reason", ["", "no", "a\x1b[31m red reason", "two\nlines", "long " * 200, targets.SHORTAGE])
def test_a_refusal_must_say_why(reason: str) -> None:
    with pytest.raises(WronglyTaken):
        targets.refusal(dataclasses.replace(GOOD_DARK, fate="any"), reason)


def test_a_file_is_taken_apart_and_put_together() -> None:
    assert file_bytes(units_of(GOOD_DARK.content)) == GOOD_DARK.content


# --- the table
def test_a_row_that_breaks_its_promise_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row("a promise", 3, 2, 0, ["the third"], 1.0, None, "")
    monkeypatch.setattr(robustness_input, "run", lambda full: [row])
    assert robustness.main(["--quick", "--only", "input"]) == 1
    assert "BROKEN (1)" in capsys.readouterr().out
    monkeypatch.setattr(robustness_input, "run", lambda full: [dataclasses.replace(row, broken=[])])
    assert robustness.main(["--quick", "--only", "input"]) == 0


def test_a_process_that_dies_or_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = robustness_input.Tally()
    monkeypatch.setattr(robustness_input, "START_S", 0.0)
    robustness_input.feed("ImageBytes", 0, 1, 1, tally, threading.Lock())
    assert tally.late == 1
    tally = robustness_input.Tally()
    monkeypatch.setattr(robustness_input, "START_S", 300.0)
    robustness_input.feed("no such target", 0, 1, 1, tally, threading.Lock())
    assert tally.died == 1
    assert "KeyError" in tally.broken[0]
