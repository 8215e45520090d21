"""Master darks for other programs: raw counts in the primary HDU, with the header that they are matched by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from darkpipe.errors import FrameError
from darkpipe.files import keywords as kw
from darkpipe.files import values
from darkpipe.files.frame_match import named_settings
from darkpipe.files.headers import FrameInfo
from darkpipe.files.layout import ModelDir
from darkpipe.files.lights import kept_cards
from darkpipe.files.model_maps import Description
from darkpipe.files.products import Card, write_primary
from darkpipe.files.synthetic import Wanted, synthetic_frame
from darkpipe.science.raw_counts import TOP_COUNT, fill_missing, to_raw_counts, to_uint16

_SHORT = {"gain": "g", "EM gain": "em", "offset": "o", "binning": "b"}
OF_NATIVE_ADU = frozenset(("SCALE", *kw.KEYWORDS["egain"]))


@dataclass(frozen=True)
class Form:
    """How a master dark is written.

    type : of the pixels. include_bias : as raw frames hold it. unit_range : float32 from 0 to 1, 65535 counts being 1.
    image_type : IMAGETYP. pedestal_adu : of the raw frames. stride : 2 for a Bayer mosaic.
    """

    type: Literal["uint16", "float32"]
    include_bias: bool
    unit_range: bool
    image_type: str
    pedestal_adu: float = 0.0
    stride: int = 1


def write_master(
    path: Path, folder: ModelDir, description: Description, wanted: Wanted, form: Form, camera: Sequence[Card]
) -> str:
    """Synthesise a dark and write it as a master dark in raw counts; returns the digest of the file.

    Pixels without a model get the median of their surroundings: a NaN would spread in other programs, and a 0 would
    leave the bias in the light. `camera`: cards of the raw frames' header.

    Raises
    ------
    DesignError
        when the bias is asked for and the model has none, or the model lacks this exposure or temperature.
    """
    frame = synthetic_frame(folder, description, wanted)
    pedestal = form.pedestal_adu if form.include_bias else 0.0
    counts, blank = fill_missing(to_raw_counts(frame.science, description.scale_factor, pedestal), form.stride)
    own: list[Card] = [
        ("IMAGETYP", form.image_type, "synthetic; " + ("with bias" if form.include_bias else "bias subtracted")),
        ("EXPTIME", wanted.exposure_s, "[s]"),
        ("EXPOSURE", wanted.exposure_s, "[s]"),
    ]
    told = {key for key, _, _ in own}
    own += [card for card in frame.header if card[0] not in told | OF_NATIVE_ADU]
    if form.unit_range:
        own.append(("RAWTOP", TOP_COUNT, "raw counts that the value 1 stands for"))
    else:
        own.append(("BUNIT", "adu", "raw counts"))
    own += [
        ("SCALEFAC", description.scale_factor, "raw counts per native adu: undone"),
        ("N_BLANK", blank, "pixels without a model: median around them"),
    ]
    stated = {key for key, _, _ in camera}
    if not stated & set(kw.KEYWORDS["egain"]):
        own.append(("EGAIN", description.gain_e_per_adu / description.scale_factor, "[e-/count]"))
    cards = [*(card for card in own if card[0] not in stated), *camera]
    if form.type == "uint16":
        image, clipped = to_uint16(counts)
        return write_primary(path, image, [*cards, ("N_CLIP", clipped, "pixels outside of 0 to 65535, clipped")])
    return write_primary(path, (counts / (TOP_COUNT if form.unit_range else 1)).astype(np.float32), cards)


def camera_cards(cards: Iterable[values.Card], info: FrameInfo, include_bias: bool) -> list[Card]:
    """What a raw frame's header says of the camera and its settings, as it stands there, and once more under the names
    that programs match by, where the header has others."""
    mine = [card for card in cards if card.keyword in kw.OF_CAMERA]
    kept, _ = kept_cards(mine, ())
    there = {key for key, _, _ in kept}
    standard: list[tuple[str, Any, str]] = [
        ("INSTRUME", info.camera or None, "camera"),
        ("GAIN", _whole(info.gain_setting), "gain setting"),
        ("OFFSET", _whole(info.offset_setting), "offset setting"),
        ("XBINNING", info.binning[0], "binning"),
        ("YBINNING", info.binning[1], "binning"),
    ]
    if include_bias and info.pedestal_adu:
        standard.append(("PEDESTAL", info.pedestal_adu, "to be added to make the data zero-based"))
    return [*kept, *(card for card in standard if card[1] is not None and card[0] not in there)]


def cards_by_name(configuration: str) -> list[Card]:
    """The same, as far as the name of a configuration says it: of a model whose frames are not at hand."""
    parts = _parts(configuration)
    x, _, y = parts.get("binning", "1").partition("x")
    numbers: list[tuple[str, Any, str]] = [
        ("GAIN", _number(parts.get("gain")), "gain setting"),
        ("OFFSET", _number(parts.get("offset")), "offset setting"),
        ("EMGAIN", _number(parts.get("EM gain")), "EM gain"),
        ("XBINNING", int(x), "binning"),
        ("YBINNING", int(y or x), "binning"),
        ("ROWORDER", "BOTTOM-UP" if "orientation" in parts else None, "order of the rows"),
    ]
    return [card for card in numbers if card[1] is not None]


def setting_name(configuration: str) -> str:
    """'g100_o50_b1': the settings of a configuration in the name of a file."""
    parts = _parts(configuration)
    return "_".join(f"{letter}{parts[name]}" for name, letter in _SHORT.items() if name in parts)


def _parts(configuration: str) -> Mapping[str, str]:
    try:
        return named_settings(configuration)
    except FrameError:  # a name of a user's own
        return {}


def _number(text: str | None) -> int | float | None:
    return None if text is None else _whole(float(text))


def _whole(number: float | None) -> int | float | None:
    """Whole numbers as such: programs compare gain and offset as integers."""
    return int(number) if number is not None and number == int(number) else number
