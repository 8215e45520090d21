"""Frames of a camera as FITS files: written whole or not at all, with everything that is known, and verified again."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from darkpipe.errors import FrameError, ProductError
from darkpipe.files.atomic import replace_file, sync, sync_folder
from darkpipe.files.fits_bytes import BLOCK, ImageLayout, locate_image
from darkpipe.files.pixels import decode
from darkpipe.files.sources import BytesSource, FileSource
from darkpipe.version import __version__
from hardware.camera import CameraInfo, Exposure
from hardware.errors import CaptureError
from hardware.frames.disk import disk_error
from hardware.frames.fits_sum import WHOLE, checksum_text, ones_sum
from hardware.planning.slots import Slot

Card = tuple[str, Any, str]

CLOCK_JUMP_S = 1.0
"""Time of day and duration may differ by so much before the header says that the clock was set."""

_CHUNK = 1 << 19  # pixels: one megabyte stays in the processor's cache from the first look to the last
_MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)


@dataclass(frozen=True)
class FrameTemperatures:
    """What the thermometers and the cooler said around a frame; None: nothing.

    start, middle, end : of the sensor [°C]; mean_c : of those that are there. set_point, heat_sink : [°C].
    power : of the cooler [%].
    """

    start: float | None = None
    middle: float | None = None
    end: float | None = None
    set_point: float | None = None
    power: float | None = None
    heat_sink: float | None = None

    @property
    def mean_c(self) -> float | None:
        there = [t for t in (self.start, self.middle, self.end) if t is not None and math.isfinite(t)]
        return sum(there) / len(there) if there else None


def write_dark(
    path: Path,
    exposure: Exposure,
    *,
    info: CameraInfo,
    slot: Slot,
    frame_id: str,
    session: str,
    temperatures: FrameTemperatures,
    retries: int = 0,
    qc: Sequence[str] = (),
    gate: bool = True,
    clock_jump_s: float | None = None,
) -> str:
    """Write a frame, replacing what stood there; when this returns, a power cut leaves it whole.

    Parameters
    ----------
    exposure : pixels (rows, cols) uint16 and times.
    frame_id : identity of the slot, which `verify_frame` asks for again. session : its name.
    retries : earlier tries of this frame. qc : flags, in words.
    gate : False: the temperature was not required to be at its set point.
    clock_jump_s : so much the time of day moved against the duration [s].

    Returns
    -------
    str : xxh3_128 of the file.

    Raises
    ------
    DiskSpaceError, CaptureError
        when the file cannot be written; what stood there stays.
    """
    pixels = exposure.pixels
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise CaptureError(f"pixels are {pixels.dtype} of {pixels.ndim} axes, not 16-bit counts in rows", where=path)
    cards = [
        *_what(exposure, info, slot),
        *_times(exposure, clock_jump_s),
        *_thermal(temperatures, gate),
        *_camera(info),
        *_bookkeeping(frame_id, session, retries, qc),
    ]
    header = _header(pixels.shape, cards)
    new_folders = _missing_folders(path.parent)
    try:
        digest = replace_file(path, lambda stream: _write(stream, header, pixels))
        sync([path])
    except ProductError as error:
        raise disk_error(error, error.where) from error
    for folder in new_folders:  # a folder is safe when the one around it is
        sync_folder(folder.parent)
    return digest


def _what(exposure: Exposure, info: CameraInfo, slot: Slot) -> list[Card]:
    return [
        ("IMAGETYP", "Bias Frame" if slot.kind == "bias" else "Dark Frame", "type of frame"),
        ("EXPTIME", exposure.exposure_s, "[s] exposure, actual"),
        ("EXPREQ", slot.exposure_s, "[s] exposure, as asked"),
        ("XBINNING", info.binning[0], "binning of columns"),
        ("YBINNING", info.binning[1], "binning of rows"),
        ("ROWORDER", "TOP-DOWN", "the first row is the top of the image"),
    ]


def _times(exposure: Exposure, clock_jump_s: float | None) -> list[Card]:
    jumped = clock_jump_s is not None and abs(clock_jump_s) >= CLOCK_JUMP_S
    started, ended = exposure.started.astimezone(UTC), exposure.ended.astimezone(UTC)
    return [
        ("DATE-OBS", _stamp(started), "UTC, start of the exposure"),
        ("DATE-END", _stamp(ended), "UTC, end of the exposure"),
        ("MJD-OBS", round((started - _MJD_ZERO).total_seconds() / 86400, 8), "[d] start, UTC"),
        ("CLKJUMP", clock_jump_s if jumped else None, "[s] the clock was set during the exposure"),
    ]


def _stamp(utc: datetime) -> str:
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _thermal(temperatures: FrameTemperatures, gate: bool) -> list[Card]:
    return [
        ("CCD-TEMP", _digits(temperatures.mean_c), "[deg C] sensor, mean of its readings"),
        ("T-START", _digits(temperatures.start), "[deg C] sensor before the exposure"),
        ("T-MIDDLE", _digits(temperatures.middle), "[deg C] sensor in its middle"),
        ("T-END", _digits(temperatures.end), "[deg C] sensor after it"),
        ("SET-TEMP", _digits(temperatures.set_point), "[deg C] set point"),
        ("COOL-POW", _digits(temperatures.power), "[%] power of the cooler"),
        ("HSINKTMP", _digits(temperatures.heat_sink), "[deg C] heat sink"),
        ("TEMPGATE", gate, "T: kept only if within tolerance of set point"),
    ]


def _digits(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)


def _camera(info: CameraInfo) -> list[Card]:
    size = info.pixel_size_um
    return [
        ("INSTRUME", info.name, "camera"),
        ("CAMERAID", info.camera_id, "unique, of the camera"),
        ("CAMDRV", info.driver, "driver"),
        ("SENSOR", info.sensor_name, "sensor"),
        ("GAIN", info.gain, "gain setting"),
        ("OFFSET", info.offset, "offset setting"),
        ("EGAIN", info.electrons_per_adu, "[e-/ADU] as the driver says"),
        ("READOUTM", info.readout_mode, "read-out mode"),
        ("XPIXSZ", None if size is None else size[0] * info.binning[0], "[um] pixel width, binned"),
        ("YPIXSZ", None if size is None else size[1] * info.binning[1], "[um] pixel height, binned"),
    ]


def _bookkeeping(frame_id: str, session: str, retries: int, qc: Sequence[str]) -> list[Card]:
    return [
        ("SWCREATE", f"darkpipe {__version__}", "software"),
        ("SESSION", session, "session of frames"),
        ("FRAMEID", frame_id, "identity of this frame"),
        ("RETRIES", retries, "earlier tries of this frame"),
        ("QCFLAGS", len(qc), "findings that did not reject it"),
        *((f"QC{number}", flag, "") for number, flag in enumerate(qc, 1)),
    ]


def _header(shape: tuple[int, ...], cards: Sequence[Card]) -> fits.Header:
    header = fits.Header()
    structure: list[Card] = [
        ("SIMPLE", True, "FITS standard 4.0"),
        ("BITPIX", 16, "bits of a pixel"),
        ("NAXIS", 2, "axes"),
        ("NAXIS1", shape[1], "columns"),
        ("NAXIS2", shape[0], "rows"),
        ("BZERO", 32768, "unsigned 16-bit integers"),
        ("BSCALE", 1, ""),
        ("BUNIT", "adu", ""),
    ]
    for keyword, value, comment in [*structure, *cards]:
        if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
            continue  # what is not known is left out: no value stands for 'none'
        text = _printable(value) if isinstance(value, str) else value
        # a long text goes on over further cards, without a comment
        room = not isinstance(text, str) or len(text) + text.count("'") + len(comment) <= 64
        header[keyword] = (text, comment) if room else text
    return header


def _printable(text: str) -> str:
    """FITS holds printable ASCII alone; anything else is written as an escape, so that nothing is lost."""
    ascii_text = text.encode("ascii", "backslashreplace").decode()
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in ascii_text)


def _write(stream: BinaryIO, header: fits.Header, pixels: NDArray[np.uint16]) -> None:
    """Header, pixels, padding; the sums become known on the way, so the header is written last, into its place."""
    header["CHECKSUM"] = ("0" * 16, "of header and pixels")
    header["DATASUM"] = ("0", "of the pixels")
    begin = len(header.tostring())
    stream.seek(begin)
    datasum = 0
    for stored in _stored(pixels):
        datasum = ones_sum(stored.view(np.uint8), datasum)
        stream.write(stored.data)
    stream.write(b"\0" * (-pixels.size * 2 % BLOCK))
    header["DATASUM"] = str(datasum)
    text = header.tostring().encode("ascii")
    header["CHECKSUM"] = checksum_text(ones_sum(text, datasum))
    stream.seek(0)
    stream.write(header.tostring().encode("ascii"))
    stream.flush()
    os.fsync(stream.fileno())


def _stored(pixels: NDArray[np.uint16]) -> Iterator[NDArray[np.uint16]]:
    """The pixels as the file holds them: signed, big-endian; piece by piece, in whole words of 32 bits."""
    flat = np.ascontiguousarray(pixels).reshape(-1)
    for begin in range(0, flat.size, _CHUNK):
        yield (flat[begin : begin + _CHUNK] ^ np.uint16(0x8000)).astype(">u2")


def verify_frame(path: Path, frame_id: str) -> str | None:
    """Why a file is not the whole frame of this identity, as `write_dark` left it; None if it is."""
    try:
        content = path.read_bytes()
        layout = locate_image(BytesSource(content))
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except FrameError as error:
        return error.what
    size = layout.begin + -(-layout.count // BLOCK) * BLOCK
    if len(content) != size:
        return f"the file is torn: {len(content)} bytes, not {size}"
    if not layout.is_uint16 or layout.hdu != 0:
        return "not a frame as this program writes it: another type of pixels"
    cards = {card.keyword: card.value for card in layout.cards}
    if cards.get("FRAMEID") != _printable(frame_id):
        return f"another frame: its FRAMEID is {cards.get('FRAMEID')}, not {frame_id}"
    datasum = ones_sum(memoryview(content)[layout.begin :])
    if cards.get("DATASUM") != str(datasum):
        return "its pixels are damaged: DATASUM does not agree"
    if ones_sum(content[: layout.begin], datasum) != WHOLE:
        return "its header is damaged: CHECKSUM does not agree"
    return None


def read_pixels(path: Path) -> NDArray[np.uint16]:
    """The pixels (rows, cols) of a frame that `write_dark` wrote.

    Raises
    ------
    CaptureError
        when the file cannot be read, or holds something else.
    """
    try:
        with open(path, "rb") as stream:
            source = FileSource(stream, os.fstat(stream.fileno()).st_size)
            layout: ImageLayout = locate_image(source)
            pixels = decode(source, layout)
    except OSError as error:
        raise CaptureError(f"a frame cannot be read: {error.strerror or error}", where=path) from error
    except FrameError as error:
        raise CaptureError(error.what, where=path, do=error.do) from error
    if pixels.dtype != np.uint16:
        raise CaptureError(f"a frame holds {pixels.dtype}, not 16-bit counts", where=path)
    return pixels


def _missing_folders(folder: Path) -> list[Path]:
    """The folder and those above it that are not there yet, the outermost first."""
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    return missing[::-1]
