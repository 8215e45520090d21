"""Everything that reads what others wrote, each with its inputs and the judgement of what became of them.

A feed returns 'good' (taken, and rightly), 'refused' (with a reason), or 'error' (a PipelineError); any other exception
breaks the promise, `WronglyTaken` among them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from corpus import answers, chance, compressed, document, frames, headers, journals, judging, texts
from corpus.document import Input
from corpus.judging import Taken, WronglyTaken
from darkpipe.errors import FrameError, PipelineError, SettingsError
from darkpipe.files.em_frames import describe_em_frame, read_em_frame
from darkpipe.files.fits_bytes import parse_cards
from darkpipe.files.frames import FrameStack, FrameSurvey, survey_frame
from darkpipe.files.headers import configuration_name, read_cards, usable_as
from darkpipe.files.index import index_rows
from darkpipe.files.layout import RawDir
from darkpipe.files.lights import describe, kept_cards, read_light
from darkpipe.jobs.contract import Digests, Job
from darkpipe.jobs.journal import JOURNAL_NAME, Journal
from darkpipe.jobs.runner import execute
from darkpipe.settings import commented_yaml, read_yaml
from hardware.alpaca.calls import AlpacaCalls, management
from hardware.alpaca.http import Answer
from hardware.alpaca.image import decode
from hardware.discovery import _server_of
from hardware.errors import CameraError, CaptureError
from hardware.frames.frame_file import read_pixels, verify_frame
from hardware.frames.frame_journal import FrameJournal
from hardware.planning.flats import _kind_and_exposure
from hardware.planning.slots import Slot

GOOD, REFUSED, ERROR = "good", "refused", "error"
SHORTAGE = "does not fit into memory"  # said only where memory was asked for before the size was looked at
LONGEST_REASON = 500


@dataclass(frozen=True)
class Target:
    """One thing that reads. directed : inputs that are wrong in a known way. chance : one more, by chance."""

    name: str
    directed: Callable[[], Iterator[Input]]
    chance: Callable[[Random], Input] | None
    feed: Callable[[Input, Path], str]

    def make(self, seed: int, number: int) -> Input:
        """The input of a number: first the directed ones, in order, then as many by chance as are wanted."""
        known = listed(self.name)
        if number < len(known):
            return known[number]
        if self.chance is None:
            raise IndexError(number)
        return self.chance(Random(f"{seed}/{self.name}/{number}"))


@cache
def listed(name: str) -> list[Input]:
    """The directed inputs of a target."""
    return list(TARGETS[name].directed())


def refusal(item: Input, reason: str, outcome: str = REFUSED) -> str:
    """Judge a refusal: it must say why, in one line that a terminal can show, and good input must not be refused."""
    if item.fate == "accepted":
        raise WronglyTaken(f"{item.name}: refused, but is good: {reason[:200]}")
    if len(reason.strip()) < 5 or SHORTAGE in reason:
        raise WronglyTaken(f"{item.name}: refused for a reason that is none: {reason[:200]!r}")
    if item.reason and not re.search(item.reason, reason, re.IGNORECASE):
        raise WronglyTaken(f"{item.name}: refused for another reason: {reason[:200]!r}")
    check_line(item, reason)
    return outcome


def check_line(item: Input, reason: str) -> None:
    """What is said must be short and printable."""
    if len(reason) > LONGEST_REASON:
        raise WronglyTaken(f"{item.name}: a reason of {len(reason)} characters")
    if not reason.isprintable():
        raise WronglyTaken(f"{item.name}: a reason with control characters: {reason[:200]!r}")


# --- frames
def feed_frame(item: Input, folder: Path) -> str:
    """Survey, index, pixels as later steps read them; then everything else that reads raw frames."""
    path = folder / f"frame{item.suffix}"
    path.write_bytes(item.content)
    survey = survey_frame(path)
    if FrameSurvey.from_json(survey.to_json()).to_json() != survey.to_json():
        raise WronglyTaken(f"{item.name}: its survey does not survive")
    (row,) = index_rows([(path.name, survey)])
    _feed_others(item, path)
    if row["status"] != "accepted":
        return refusal(item, str(row["reason"]))
    info = survey.info
    assert info is not None
    with FrameStack([path], [survey.hdu], survey.rows, survey.cols) as stack:
        values = stack.read_rows(0, survey.rows)[0]
    exposure, celsius = info.exposure_s, info.temperature_c
    taken = Taken(
        values,
        survey.hdu,
        exposure if exposure is not None else math.nan,
        celsius if celsius is not None else math.nan,
        info.kind,
    )
    judging.check_accepted(item, taken)
    light = read_light(path)
    if not np.array_equal(light.raw.astype(values.dtype), values, equal_nan=values.dtype.kind == "f"):
        raise WronglyTaken(f"{item.name}: two readers, two images")
    kept_cards(light.cards, ())
    return GOOD


def _feed_others(item: Input, path: Path) -> None:
    with contextlib.suppress(FrameError):
        describe(path)
    with contextlib.suppress(CaptureError):
        read_pixels(path)
    if not verify_frame(path, "a/frame"):
        raise WronglyTaken(f"{item.name}: taken for a frame of our own")
    _kind_and_exposure(path)
    try:
        frame = describe_em_frame(path, assume_electrons=True)
        read_em_frame(frame)
    except PipelineError as error:
        check_line(item, error.what)


def feed_cards(item: Input, folder: Path) -> str:
    """A header alone, as text: what is read from it."""
    text = item.content.decode("latin-1")
    cards = parse_cards([text[n : n + 80] for n in range(0, len(text), 80)])
    try:
        info = read_cards(cards)
    except FrameError as error:
        return refusal(item, error.what, ERROR)
    name = configuration_name(info, frames.ROWS, frames.COLS)
    if not re.fullmatch(r"[A-Za-z0-9+][A-Za-z0-9._+-]*", name) or ".." in name or len(name) > 255:
        raise WronglyTaken(f"{item.name}: the name {name!r} for a configuration")
    kept_cards(cards, ())
    told = (
        info.camera,
        info.serial,
        info.readout_mode,
        info.filter_name,
        info.date_obs,
        info.bayer,
        info.flip,
        *info.notes,
    )
    for line in told:
        check_line(item, line)
    reason = usable_as(info)
    if reason is not None:
        return refusal(item, reason)
    if info.exposure_s is None or not 0 <= info.exposure_s < math.inf:
        raise WronglyTaken(f"{item.name}: an exposure of {info.exposure_s}")
    if info.temperature_c is None or not -273.15 < info.temperature_c <= 100:
        raise WronglyTaken(f"{item.name}: {info.temperature_c} °C")
    return GOOD


def directed_cards() -> Iterator[Input]:
    for make in headers.DIRECTED:
        for item in make():
            cards = document.units_of(item.content)[0].cards
            yield Input(item.name, b"".join(cards))
    for cards in chance.real_cards():
        yield Input("a real header", b"".join(cards))


def chance_cards(rng: Random) -> Input:
    """Some cards, each spoiled or not."""
    cards = list(rng.choice(chance.real_cards() or [frames.dark_cards()]))
    for _ in range(rng.choice((1, 2, 5))):
        image = document.card(rng.choice(chance.KEYWORDS), rng.choice(chance.VALUES), rng.choice(chance.COMMENTS))
        cards.insert(rng.randrange(len(cards) + 1), image)
    content = b"".join(cards)
    return Input("cards by chance", chance.turn_bits(rng, content) if rng.random() < 0.5 else content)


def directed_frames() -> Iterator[Input]:
    for make in (*frames.DIRECTED, *headers.DIRECTED):
        yield from make()
    yield from headers.real_headers(chance.real_cards())


def directed_packed() -> Iterator[Input]:
    for make in compressed.DIRECTED:
        yield from make()


def directed_bombs() -> Iterator[Input]:
    for make in compressed.BOMBS:
        yield from make()


# --- settings
def feed_settings(item: Input, folder: Path) -> str:
    """Read, composed, printed, and read again."""
    from master_controller import MasterController

    path = folder / "settings.yaml"
    path.write_bytes(item.content)
    try:
        settings = MasterController(read_yaml(path), source=path).settings()
    except SettingsError as error:
        return refusal(item, error.what, ERROR)
    if item.fate == "refused":
        raise WronglyTaken(f"{item.name}: accepted, but must be refused")
    path.write_text(commented_yaml(settings), encoding="utf-8")
    again = MasterController(read_yaml(path), source=path).settings()
    if commented_yaml(again) != commented_yaml(settings):
        raise WronglyTaken(f"{item.name}: settings that are printed are others when they are read")
    os.fsencode(settings.output_dir)
    return GOOD


# --- the camera's server
def feed_image(item: Input, folder: Path) -> str:
    return _feed_download(item, "application/imagebytes")


def feed_json_image(item: Input, folder: Path) -> str:
    return _feed_download(item, "application/json")


def _feed_download(item: Input, kind: str) -> str:
    shape = (answers.ROWS, answers.COLS)
    try:
        pixels = decode(Answer(200, kind, item.content, "http://here"), shape, "here")
    except CameraError as error:
        return refusal(item, error.what, ERROR)
    if item.fate == "refused" or pixels.shape != shape or pixels.dtype != np.uint16:
        raise WronglyTaken(f"{item.name}: taken for an image {pixels.shape} of {pixels.dtype}")
    if item.fate == "accepted" and item.truth is not None and not np.array_equal(pixels, item.truth.pixels):
        raise WronglyTaken(f"{item.name}: other pixels than were sent")
    return GOOD


class OneAnswer:
    """A server on this machine that answers every question with the same bytes."""

    def __init__(self) -> None:
        self.content = b""
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            line, _ = self._listening.accept()
            with contextlib.suppress(OSError), line:
                line.settimeout(5.0)
                asked = b""
                while b"\r\n\r\n" not in asked and (piece := line.recv(1 << 16)):
                    asked += piece
                if asked:
                    line.sendall(self.content)


@cache
def server() -> OneAnswer:
    """One for a process."""
    return OneAnswer()


def feed_http(item: Input, folder: Path) -> str:
    """One question of every kind."""
    here = server()
    here.content = item.content
    calls = AlpacaCalls(here.address, 0)
    found: object = None
    problem = ""
    try:
        for read in (calls.number, calls.boolean, calls.text, calls.names, calls.state):
            try:
                value = read("CCDTemperature") if read != calls.state else calls.state()  # type: ignore[operator]
            except CameraError as error:
                problem = problem or error.what
                check_line(item, error.what)
            else:
                found = value if found is None else found
        management(calls.line, "description")
    except CameraError as error:
        problem = problem or error.what
    finally:
        calls.line.close()
    if found is None:
        return refusal(item, problem or "no value", ERROR)
    if item.fate == "refused":
        raise WronglyTaken(f"{item.name}: taken for {str(found)[:80]!r}")
    if item.fate == "accepted" and found != -10.5:
        raise WronglyTaken(f"{item.name}: read as {found!r}")
    return GOOD


def feed_datagram(item: Input, folder: Path) -> str:
    address = _server_of(item.content, "127.0.0.1")
    if address is None:
        return refusal(item, "no port")
    if item.fate == "refused" or not re.fullmatch(r"127\.0\.0\.1:\d{1,5}", address):
        raise WronglyTaken(f"{item.name}: taken for {address!r}")
    return GOOD


# --- journals
def copied(inputs: tuple[Path, ...], outputs: tuple[Path, ...], **params: object) -> Digests:
    """A job that copies its input."""
    for path in outputs:
        draft = path.with_suffix(".draft")
        draft.write_bytes(inputs[0].read_bytes() + repr(params).encode())
        draft.replace(path)
    return {}


class CopyStep:
    """The step of that job."""

    NAME, VERSION = "copy", 1


@cache
def written_jobs() -> tuple[bytes, dict[str, tuple[bytes, int]]]:
    """A journal as it is written, and the files that it tells of, with their times."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "in.txt").write_bytes(b"in")
        os.utime(root / "in.txt", ns=(10**18, 10**18))
        journal = Journal(root)
        for name in ("a.txt", "b.txt"):
            job = job_of(root, name)
            journal.record(CopyStep, job, execute(job))  # type: ignore[arg-type]
        journal.commit()
        held = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in root.glob("*.txt")}
        return (root / JOURNAL_NAME).read_bytes(), held


def job_of(root: Path, name: str) -> Job:
    """The job that makes a file."""
    return Job(copied, (root / "in.txt",), (root / name,), {"k": 1})


def job_lines() -> tuple[dict[str, object], ...]:
    """Lines of that journal."""
    return tuple(json.loads(line) for line in written_jobs()[0].splitlines())


def feed_jobs(item: Input, folder: Path) -> str:
    """A journal read, asked, pruned by, written on, and read again; nothing outside its folder may be touched."""
    root = folder / "out"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, (content, time_ns) in written_jobs()[1].items():
        (root / name).write_bytes(content)
        os.utime(root / name, ns=(time_ns, time_ns))
    (folder / "b.txt").write_bytes(b"not ours")
    (root / JOURNAL_NAME).write_bytes(item.content)
    try:
        outcome = _feed_jobs(item, root)
    except PipelineError as error:
        outcome = refusal(item, error.what, ERROR)
    if (folder / "b.txt").read_bytes() != b"not ours":
        raise WronglyTaken(f"{item.name}: a file outside was touched")
    return outcome


def _feed_jobs(item: Input, root: Path) -> str:
    known = Journal(root, read_only=True)
    reasons = [known.stale(CopyStep, job_of(root, name)) for name in ("a.txt", "b.txt")]  # type: ignore[arg-type]
    known.origins([root / "a.txt", root / "in.txt"])
    known.maker("a.txt")
    journal = Journal(root)
    for campaign in sorted(journal.campaigns("copy"), key=str):
        journal.remove([key for key in journal.orphans("copy", campaign, ["a.txt"]) if key != "a.txt"])
    job = job_of(root, "a.txt")
    journal.record(CopyStep, job, execute(job))  # type: ignore[arg-type]
    journal.commit()
    after = Journal(root).stale(CopyStep, job)  # type: ignore[arg-type]
    if after is not None:
        raise WronglyTaken(f"{item.name}: what was just recorded is lost: {after}")
    warnings = [*known.warnings]
    for line in warnings:
        check_line(item, line)
    if item.fate == "accepted" and (warnings or any(reasons)):
        raise WronglyTaken(f"{item.name}: {warnings} {reasons}")
    return refusal(item, "; ".join(warnings)[:LONGEST_REASON]) if warnings else GOOD


NOW = datetime(2025, 1, 2, tzinfo=UTC)
SLOTS = (Slot("dark", 2.0, -10.0, 1), Slot("dark", 2.0, -10.0, 2), Slot("bias", 0.001, None, 1))


def feed_frame_journal(item: Input, folder: Path) -> str:
    """The same of the journal beside the frames."""
    root = folder / "raw"
    shutil.rmtree(root, ignore_errors=True)
    raw = RawDir(root)
    raw.journal.parent.mkdir(parents=True, exist_ok=True)
    raw.journal.write_bytes(item.content)
    (folder / "outside.fits").write_bytes(b"not ours")
    try:
        journal = FrameJournal(raw)
        journal.recall({"address": "127.0.0.1:1"})
        journal.interrupted()
        session = journal.open_session(None, {"gain": 1}, NOW)
        paths = session.assign(SLOTS, True)
        if len(set(paths.values())) != len(SLOTS) or not all(p.is_relative_to(root) for p in paths.values()):
            raise WronglyTaken(f"{item.name}: two frames of one name, or a frame outside")
        session.missing(SLOTS)
        session.begin(SLOTS[0], NOW)
        attempts = session.attempts(SLOTS[0])
        again = FrameJournal(raw)
        if again.open_session(None, {"gain": 1}, NOW).attempts(SLOTS[0]) != attempts:
            raise WronglyTaken(f"{item.name}: what was just written is lost")
    except CaptureError as error:
        return refusal(item, error.what, ERROR)
    if (folder / "outside.fits").read_bytes() != b"not ours":
        raise WronglyTaken(f"{item.name}: a file outside was touched")
    warnings = list(journal.warnings)
    for line in warnings:
        check_line(item, line)
    return refusal(item, "; ".join(warnings)[:LONGEST_REASON]) if warnings and item.fate != "accepted" else GOOD


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("frames", directed_frames, chance.chance_frame, feed_frame),
        Target("compressed frames", directed_packed, None, feed_frame),
        Target("bombs", directed_bombs, None, feed_frame),
        Target("header cards", directed_cards, chance_cards, feed_cards),
        Target("settings", texts.directed, texts.chance, feed_settings),
        Target("ImageBytes", answers.images, answers.chance_image, feed_image),
        Target("images in JSON", answers.json_images, answers.chance_json, feed_json_image),
        Target("answers over HTTP", answers.https, answers.chance_http, feed_http),
        Target("answers to the search", answers.datagrams, answers.chance_datagram, feed_datagram),
        Target(
            "journal of jobs",
            lambda: journals.directed(job_lines()),
            lambda rng: journals.chance(rng, job_lines()),
            feed_jobs,
        ),
        Target(
            "journal of frames",
            lambda: journals.directed(journals.FRAMES),
            lambda rng: journals.chance(rng, journals.FRAMES),
            feed_frame_journal,
        ),
    )
}
__all__ = ["TARGETS", "Target", "document", "listed"]
