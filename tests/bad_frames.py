"""Files as they are met in the wild: damaged, odd, or belonging elsewhere; each with what must become of it.

Damaged files come first, then links and names, then forms of FITS, then frames that belong elsewhere.
Every frame is otherwise a good dark of the generator's 'tiny' preset (-10 °C, 100 s), so that a case can be dropped
into a campaign of that preset. ``CASES`` maps a name to its writer; ``write_case`` and ``write_all`` call them.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from simulated import EPOCH, PRESETS, Sensor, Shot, header_of


class Case(NamedTuple):
    """A file and its fate.

    expectation: 'accepted'; 'rejected', with a reason that ``re.search(word, reason, re.IGNORECASE)`` finds;
    'apart' (a good frame of another configuration: never mixed with the rest); 'ignored' (not listed as a frame).
    level: 'frame' if the file alone decides, 'campaign' if its kind or the other frames do.
    """

    path: Path
    expectation: str
    word: str = ""
    level: str = "frame"


Writer = Callable[[Path, fits.Header, np.ndarray], Case]
CASES: dict[str, Writer] = {}


def case(function: Writer) -> Writer:
    """Enter a writer into CASES under its name."""
    CASES[function.__name__] = function
    return function


def good_frame(number: int, sensor: Sensor | None = None) -> tuple[fits.Header, np.ndarray]:
    """Header and uint16 image (32, 32) of one more dark; other numbers have other noise."""
    sensor = sensor or Sensor(PRESETS["tiny"])
    exposure = sensor.expose(Shot("dark", -10.0, 100.0, 1000 + number))
    return header_of(sensor.recipe, exposure, EPOCH), exposure.image


def write_case(folder: Path, name: str, sensor: Sensor | None = None) -> Case:
    """Write one case into a folder (made if missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    header, image = good_frame(list(CASES).index(name), sensor)
    return CASES[name](folder, header, image)


def write_all(folder: Path, sensor: Sensor | None = None) -> dict[str, Case]:
    """Write every case that this machine can make (root reads anything, so 'unreadable' is left out for root)."""
    return {
        name: write_case(folder, name, sensor) for name in CASES if name != "unreadable" or not can_read_everything()
    }


def can_read_everything() -> bool:
    """True where file modes do not keep us out."""
    return not hasattr(os, "geteuid") or os.geteuid() == 0


def _bytes(header: fits.Header, data: np.ndarray | None) -> bytes:
    buffer = io.BytesIO()
    fits.PrimaryHDU(data, header).writeto(buffer)
    return buffer.getvalue()


def _save(path: Path, header: fits.Header, data: np.ndarray, **cards: object) -> Path:
    header = header.copy()
    header.update(cards)
    path.write_bytes(_bytes(header, data))
    return path


@case
def zero_byte(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "zero_byte.fits"
    path.write_bytes(b"")
    return Case(path, "rejected", "empty|zero|0 bytes")


@case
def truncated_header(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "truncated_header.fits"
    path.write_bytes(_bytes(header, image)[:800])
    return Case(path, "rejected", "header|truncated|short")


@case
def truncated_data(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "truncated_data.fits"
    path.write_bytes(_bytes(header, image)[: 2880 + image.nbytes // 2])
    return Case(path, "rejected", "truncated|short|bytes")


@case
def truncated_gz(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "truncated_gz.fits.gz"
    packed = gzip.compress(_bytes(header, image), mtime=0)
    path.write_bytes(packed[: len(packed) // 2])
    return Case(path, "rejected", "truncated|short|damaged|compressed|gzip|end")


@case
def not_fits(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "not_fits.fits"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40)
    return Case(path, "rejected", "FITS")


@case
def text(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "text.fits"
    path.write_text("This is the observing log of 8 September, not an image.\n" * 100)
    return Case(path, "rejected", "FITS")


@case
def xisf(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "dark.xisf"
    path.write_bytes(b"XISF0100" + bytes(4096))
    return Case(path, "rejected", "XISF")


@case
def naxis_lies(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "naxis_lies.fits"
    path.write_bytes(_bytes(header, image).replace(b"  =                   32", b"  =              1000000"))
    return Case(path, "rejected", "truncated|short|bytes|NAXIS")


@case
def naxis_negative(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "naxis_negative.fits"
    path.write_bytes(
        _bytes(header, image).replace(b"NAXIS1  =                   32", b"NAXIS1  =                  -32")
    )
    return Case(path, "rejected", "NAXIS|axis|image|header|FITS")


@case
def unreadable(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = _save(folder / "unreadable.fits", header, image)
    path.chmod(0)
    return Case(path, "rejected", "permission|denied|read")


@case
def link_to_itself(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "link_to_itself.fits"
    path.symlink_to(path.name)
    return Case(path, "rejected", "link|loop")


@case
def link_to_nothing(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "link_to_nothing.fits"
    path.symlink_to("gone.fits")
    return Case(path, "rejected", "link|no such|missing|exist|gone")


@case
def link_loop(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    (folder / "looped").mkdir(exist_ok=True)
    path = folder / "looped" / "up"
    path.symlink_to("..", target_is_directory=True)
    return Case(path, "ignored")


@case
def link_to_file(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    (folder / ".store").mkdir(exist_ok=True)
    _save(folder / ".store" / "elsewhere.fits", header, image)
    path = folder / "link_to_file.fits"
    path.symlink_to(".store/elsewhere.fits")
    return Case(path, "accepted")


@case
def upper_case(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    return Case(_save(folder / "UPPER_CASE.FIT", header, image), "accepted")


@case
def fts(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    (folder / "sub folder").mkdir(exist_ok=True)
    return Case(_save(folder / "sub folder" / "short.fts", header, image), "accepted")


@case
def hidden(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    return Case(_save(folder / ".hidden.fits", header, image), "ignored")


@case
def draft(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    return Case(_save(folder / ".frame.fits.123-0.draft", header, image), "ignored")


@case
def named_bias(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    (folder / "bias").mkdir(exist_ok=True)
    return Case(_save(folder / "bias" / "bias_of_a_dark.fits", header, image), "accepted")


@case
def duplicate(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    first = _save(folder / "duplicate_a.fits", header, image)
    return Case(
        Path(shutil.copyfile(first, folder / "duplicate_b.fits")), "rejected", "duplicate|same|copy", "campaign"
    )


@case
def duplicate_pixels(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    _save(folder / "same_pixels_a.fits", header, image)
    path = _save(folder / "same_pixels_b.fits", header, image, OBSERVER="somebody else")
    return Case(path, "rejected", "duplicate|same|copy", "campaign")


@case
def gz(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "packed.fits.gz"
    path.write_bytes(gzip.compress(_bytes(header, image), mtime=0))
    return Case(path, "accepted")


@case
def fz(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "packed.fits.fz"
    hdu = fits.CompImageHDU(image, header, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return Case(path, "accepted")


@case
def signed_int16(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    return Case(_save(folder / "signed.fits", header, np.minimum(image, 32767).astype(np.int16)), "accepted")


@case
def int32(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    return Case(_save(folder / "int32.fits", header, image.astype(np.int32)), "accepted")


@case
def float32(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    return Case(_save(folder / "float.fits", header, image.astype(np.float32)), "accepted")


@case
def float32_with_nan(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    data = image.astype(np.float32)
    data[3, 5] = np.nan
    return Case(_save(folder / "float_nan.fits", header, data), "accepted")


@case
def bzero_bscale(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    """Stored as int16 with BSCALE 2 and BZERO 1001: even and odd values of the sensor survive to within one."""
    stored = np.clip((image.astype(int) - 1001) // 2, -32768, 32767).astype(np.int16)
    hdu = fits.PrimaryHDU(stored, header)
    hdu.header["BSCALE"], hdu.header["BZERO"] = 2.0, 1001.0
    hdu.writeto(folder / "bzero_bscale.fits", overwrite=True)
    return Case(folder / "bzero_bscale.fits", "accepted")


@case
def first_extension(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "first_extension.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, header)]).writeto(path, overwrite=True)
    return Case(path, "accepted")


@case
def first_extension_inherits(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "first_extension_inherits.fits"
    fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(image)]).writeto(path, overwrite=True)
    return Case(path, "accepted")


@case
def unpadded(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    """All pixels are there, the filling of the last block is not."""
    path = folder / "unpadded.fits"
    path.write_bytes(_bytes(header, image)[: 2880 + image.nbytes])
    return Case(path, "accepted")


@case
def trailing_bytes(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "trailing_bytes.fits"
    path.write_bytes(_bytes(header, image) + b"\0" * 100)
    return Case(path, "accepted")


@case
def table_only(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = folder / "table_only.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(3))])
    fits.HDUList([fits.PrimaryHDU(header=header), table]).writeto(path, overwrite=True)
    return Case(path, "rejected", "image")


@case
def cube(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = _save(folder / "cube.fits", header, np.stack([image] * 3))
    return Case(path, "rejected", "cube|dimension|axes|NAXIS|3")


@case
def all_nan(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    return Case(_save(folder / "all_nan.fits", header, np.full(image.shape, np.nan, np.float32)), "rejected", "NaN")


@case
def constant(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = _save(folder / "constant.fits", header, np.full_like(image, 1000))
    return Case(path, "rejected", "constant|same value", "campaign")


@case
def eight_bit(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    small = (image // 256).astype(np.uint8)
    return Case(_save(folder / "eight_bit.fits", header, small, INSTRUME="Simulated 8-bit"), "apart", "", "campaign")


@case
def other_shape(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    return Case(_save(folder / "other_shape.fits", header, image[:, :20]), "apart", "", "campaign")


@case
def other_binning(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = _save(folder / "other_binning.fits", header, image[::2, ::2].copy(), XBINNING=2, YBINNING=2)
    return Case(path, "apart", "", "campaign")


@case
def other_gain(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    return Case(_save(folder / "other_gain.fits", header, image, GAIN=200.0, EGAIN=0.4), "apart", "", "campaign")


@case
def light(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = _save(folder / "light.fits", header, image, IMAGETYP="Light Frame")
    return Case(path, "rejected", "IMAGETYP|light", "campaign")


@case
def master(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = _save(folder / "master.fits", header, image.astype(np.float32), NCOMBINE=20)
    return Case(path, "rejected", "NCOMBINE|master", "campaign")


@case
def no_exposure(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    del header["EXPTIME"]
    return Case(_save(folder / "no_exposure.fits", header, image), "rejected", "EXPTIME|exposure", "campaign")


@case
def exposure_in_words(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    path = _save(folder / "exposure_in_words.fits", header, image, EXPTIME="long")
    return Case(path, "rejected", "EXPTIME", "campaign")


@case
def no_temperature(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    del header["CCD-TEMP"], header["SET-TEMP"]
    return Case(_save(folder / "no_temperature.fits", header, image), "rejected", "temperature|CCD-TEMP", "campaign")


@case
def sentinel_temperature(folder: Path, header: fits.Header, image: np.ndarray) -> Case:
    del header["SET-TEMP"]
    path = _save(folder / "sentinel_temperature.fits", header, image, **{"CCD-TEMP": -999.0})
    return Case(path, "rejected", "CCD-TEMP", "campaign")
