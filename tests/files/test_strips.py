"""Frames in strips: the file, and the frame, that the whole gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkpipe.files.products import Card, Frame, blank, write_frame, write_primary
from darkpipe.files.strips import InStrips, whole_frames, write_primary_strips, write_together

SHAPE = (23, 5)
RNG = np.random.default_rng(8)
BANDS = [slice(14, 23), slice(0, 7), slice(7, 14)]


def frame(number: int = 0) -> Frame:
    science, error = RNG.normal(size=(2, *SHAPE)).astype(np.float32)
    extra: dict[str, Any] = {"CUBE": RNG.integers(0, 9, (3, *SHAPE)).astype(np.uint16)}
    dq = RNG.integers(0, 9, SHAPE).astype(np.uint16)
    return Frame(science, error, dq, header=[("N", number, "of a test")], extra=extra, inputs=["a", "b"])


def template_of(whole: Frame, header: list[Card]) -> Frame:
    planes = {name: blank(plane.shape, plane.dtype) for name, plane in whole.planes.items()}
    return Frame(
        planes["SCI"], planes["ERR"], planes["DQ"], extra={"CUBE": planes["CUBE"]}, header=header, inputs=whole.inputs
    )


def bands_of(whole: Frame, rows: slice) -> dict[str, Any]:
    return {name: plane[..., rows, :] for name, plane in whole.planes.items()}


def test_strips_are_the_whole_with_the_cards_of_the_end(tmp_path: Path) -> None:
    whole, seen = frame(3), []

    def made() -> InStrips:
        def strips() -> Any:
            for rows in BANDS:
                seen.append(rows)
                yield rows, bands_of(whole, rows)

        seen.clear()
        return InStrips(template_of(whole, [("N", 0, "of a test")]), strips(), lambda: [("N", len(seen), "of a test")])

    digest = write_frame(tmp_path / "whole.fits", whole)
    assert made().write(tmp_path / "strips.fits") == digest
    assert (tmp_path / "strips.fits").read_bytes() == (tmp_path / "whole.fits").read_bytes()
    assert write_frame(tmp_path / "again.fits", made().whole()) == digest


def test_a_header_of_another_size_is_refused(tmp_path: Path) -> None:
    whole = frame()
    more = [(f"N{k}", k, "") for k in range(40)]
    strips = InStrips(template_of(whole, []), [(slice(0, 23), bands_of(whole, slice(0, 23)))], lambda: more)
    with pytest.raises(ValueError, match="another size"):
        strips.write(tmp_path / "x.fits")
    assert not list(tmp_path.iterdir())


def test_frames_that_are_made_together_are_written_as_if_alone(tmp_path: Path) -> None:
    frames = [frame(1), frame(2), frame(3)]
    templates = [template_of(whole, whole.header) for whole in frames]
    alone = [write_frame(tmp_path / f"{k}.fits", whole) for k, whole in enumerate(frames)]

    def strips() -> Any:
        return ((rows, [bands_of(whole, rows) for whole in frames]) for rows in BANDS)

    assert write_together([tmp_path / f"s{k}.fits" for k in range(3)], templates, strips()) == alone
    again = whole_frames(templates, strips())
    assert [write_frame(tmp_path / f"w{k}.fits", whole) for k, whole in enumerate(again)] == alone


def test_a_primary_image_in_strips(tmp_path: Path) -> None:
    image, done = RNG.integers(0, 65536, SHAPE).astype(np.uint16), []

    def strips() -> Any:
        for rows in BANDS:
            done.append(rows)
            yield rows, image[rows]

    digest = write_primary(tmp_path / "whole.fits", image, [("N", 3, "strips")])
    made = write_primary_strips(
        tmp_path / "s.fits", blank(SHAPE, np.uint16), strips(), lambda: [("N", len(done), "strips")]
    )
    assert made == digest
