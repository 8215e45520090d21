"""Names, pipes and streams that would harm: refused with a reason, and never waited for."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from corpus import frames
from corpus.document import Unit, file_bytes

from darkpipe.errors import FrameError, one_line
from darkpipe.files.em_frames import describe_em_frame
from darkpipe.files.fits_bytes import check_structure
from darkpipe.files.frames import name_fault, shown_name
from darkpipe.files.index import read_frames, read_index, survey_key
from darkpipe.files.layout import OutputDir, RawDir
from darkpipe.files.lights import describe, read_light
from darkpipe.files.sessions import temperature_logs
from darkpipe.files.sources import BytesSource, opened_source
from darkpipe.files.survey import survey_frame
from hardware.planning.flats import detect_flat_exposure
from steps import step1_load_data

NAMES = (b"a\nb.fits", b"a\r.fits", b"\x1b[31m.fits", b" blank.fits", b"\xff.fits", "\u2028.fits".encode(), b"\tb.fits")
PLAIN = (
    b"good.fits",
    b"a,b.fits",
    b"it's.fits",
    b'a"b.fits',
    b"a\\nb.fits",
    "Kälte €.fits".encode(),
    b"-rf.fits",
    b"nan.fits",
)


def dark_number(number: int) -> bytes:
    """A dark whose pixels are not those of the others."""
    unit = frames.dark()
    data = bytearray(unit.data)
    data[number] ^= 1
    return file_bytes([Unit(unit.cards, bytes(data))])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_no_table_keeps_are_refused_and_all_others_found_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, name in enumerate((*NAMES, *PLAIN)):
        with open(os.path.join(os.fsencode(raw), name), "wb") as stream:
            stream.write(dark_number(number))
    out = OutputDir(tmp_path / "out")
    outputs: list[Path] = []
    for batch in step1_load_data.plan(out, step1_load_data.Settings(basepath=raw)):
        for job in batch:
            outputs += job.outputs
            job.outputs[0].parent.mkdir(parents=True, exist_ok=True)
            job.function(job.inputs, job.outputs, **job.params)
    assert len(set(outputs)) == len(outputs)
    table = read_index(out.index)
    refused = [str(row["reason"]) for row in table if row["status"] == "rejected"]
    unwritable = [name for name in NAMES if "\udcff" in os.fsdecode(name)]  # no table could hold them
    assert len(refused) == len(NAMES) - len(unwritable)
    assert caplog.text.count("its name is no text in UTF-8") == len(unwritable) == 1
    assert all("Rename" in reason for reason in refused)
    found = read_frames(out.index, "")
    assert {os.fsencode(frame.file) for frame in found} == set(PLAIN)
    assert all(frame.path.is_file() for frame in found)


def test_a_name_is_shown_as_it_can_be() -> None:
    assert [name_fault(os.fsdecode(name)) for name in PLAIN] == [""] * len(PLAIN)
    for name in NAMES:
        assert name_fault(os.fsdecode(name))
        assert shown_name(os.fsdecode(name)).isprintable()
        shown_name(os.fsdecode(name)).encode("utf-8")
        assert survey_key(os.fsdecode(name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.fits"
    os.mkfifo(pipe)
    assert "regular" in (survey_frame(pipe).rejected or "")
    for read in (describe, read_light, describe_em_frame):
        with pytest.raises(FrameError, match="regular"):
            read(pipe)
    assert detect_flat_exposure(tmp_path).seconds is None


def test_a_source_says_what_is_wrong_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="cannot be read"), opened_source(tmp_path / "none.fits"):
        pass


def test_rubbish_behind_the_last_unit_is_not_searched() -> None:
    good = file_bytes([frames.dark()])
    check_structure(BytesSource(good))
    check_structure(BytesSource(good + bytes(2880)))
    with pytest.raises(FrameError, match="rubbish"):
        check_structure(BytesSource(good + bytes(1 << 20)))


@pytest.mark.parametrize(
    ("keyword", "text"), [("TFIELDS", "1000000000"), ("NAXIS1", str(1 << 50)), ("PCOUNT", "1E300")]
)
def test_a_structure_that_asks_for_too_much_is_refused(keyword: str, text: str) -> None:
    unit = frames.dark().set(keyword, text)
    with pytest.raises(FrameError, match=keyword):
        check_structure(BytesSource(file_bytes([unit])))


def test_a_stream_may_unpack_to_what_a_frame_can_be_and_no_further(tmp_path: Path) -> None:
    """Zeros pack a thousandfold: far beyond counts with noise."""
    path = tmp_path / "bomb.fits.gz"
    big = frames.dark().set("NAXIS1", str(1 << 14)).set("NAXIS2", str(1 << 13))
    content = file_bytes([Unit(big.cards)])[:2880]
    path.write_bytes(gzip.compress(content) + gzip.compress(bytes(1 << 20)) * 260)
    assert "more than a frame packed into" in (survey_frame(path).rejected or "")
    noise = np.random.default_rng(1).integers(900, 1100, (64, 64)).astype(">i2").tobytes()
    small = frames.dark().set("NAXIS1", "64").set("NAXIS2", "64")
    path.write_bytes(gzip.compress(file_bytes([Unit(small.cards, noise)])))
    assert survey_frame(path).rejected is None


def test_stamps_of_a_journal_lead_nowhere_else(tmp_path: Path) -> None:
    raw = RawDir(tmp_path / "raw")
    raw.root.mkdir()
    lines = [
        '{"session": "S", "stamp": "../../outside"}',
        "[" * 5000 + '"session"',
        '{"session": "S", "stamp": "20250101_000000"}',
    ]
    raw.journal.write_text("\n".join(lines))
    log = raw.temperature_log("20250101_000000")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("x")
    assert temperature_logs([raw.root / "frame.fits"]) == [log]


def test_foreign_words_become_one_line() -> None:
    assert one_line(ValueError("a\x1b[31m\nb\u2028c")) == "a [31m b c"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line("x" * 1000)) == 200
