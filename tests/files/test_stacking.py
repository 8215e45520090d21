"""Masters of a stack do not depend on the height of the strips, nor on whether they are held or written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.errors import FrameError
from darkpipe.files import stacking
from darkpipe.files.bias_files import BiasSource
from darkpipe.files.masters import Master, ReferenceValues, master_frame
from darkpipe.files.products import Frame, write_frame
from darkpipe.files.stacking import Clipping, Stack, combine_stack, combined_strips, write_master

ROWS, COLS = 45, 37
REFERENCE = ReferenceValues(1.0, 6.0, 2.0, "set", 60_000.0, 0.0, -10.0)


def stack_of(folder: Path, frames: int) -> Stack:
    rng = np.random.default_rng(frames)
    signal = rng.exponential(30, (ROWS, COLS))
    signal[3, :10] = 70_000  # saturated
    for k in range(frames):
        image = 1000 + signal + rng.normal(0, 6, signal.shape) * np.sqrt(1 + signal / 72)
        image[rng.integers(0, ROWS, 20), rng.integers(0, COLS, 20)] += 500
        fits.PrimaryHDU(np.clip(np.rint(image), 0, 65535).astype(np.uint16)).writeto(folder / f"{k}.fits")
    paths = [folder / f"{k}.fits" for k in range(frames)]
    return Stack(paths, [0] * frames, ROWS, COLS, list(rng.normal(0, 0.5, frames)), 0.0)


def bias_in(folder: Path) -> BiasSource:
    shape = (ROWS, COLS)
    bias = Frame(np.full(shape, 1000, np.float32), np.full(shape, 1.5, np.float32), np.zeros(shape, np.uint16))
    write_frame(folder / "bias.fits", bias)
    return BiasSource(folder / "bias.fits")


@pytest.mark.parametrize("frames", [1, 2, 7, 40])
@pytest.mark.parametrize("with_bias", [True, False])
def test_strips_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, with_bias: bool
) -> None:
    stack, how = stack_of(tmp_path, frames), Clipping(4.5, 0.01)
    bias = bias_in(tmp_path) if with_bias else None
    whole = combine_stack(stack, REFERENCE, None, bias, how)
    assert len(stack.strips(2)) == 1
    for pixels in (COLS, 4 * COLS, 30 * COLS):
        monkeypatch.setattr(stacking, "STRIP_PIXELS", pixels)
        assert len(stack.strips(2)) > 1
        parts = combine_stack(stack, REFERENCE, None, bias, how)
        for name in Master.kinds():
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), err_msg=name)
        written = write_master(
            tmp_path / "strips.fits", combined_strips(stack, REFERENCE, None, bias, how), stack,
            [("A", 1, "b")], ["x"], bias=with_bias,
        )  # fmt: skip
        held = master_frame(whole, [("A", 1, "b")], ["x"], frames=frames, bias=with_bias)
        assert write_frame(tmp_path / "whole.fits", held) == written
        assert (tmp_path / "strips.fits").read_bytes() == (tmp_path / "whole.fits").read_bytes()


def test_strips_are_bounded_in_bytes_and_in_pixels() -> None:
    def heights(frames: int, rows: int, cols: int) -> set[int]:
        paths = [Path(str(k)) for k in range(frames)]
        strips = Stack(paths, [0] * frames, rows, cols, [0.0] * frames, 0.0).strips(2)
        assert [s.start for s in strips[1:]] == [s.stop for s in strips[:-1]]
        assert (strips[0].start, strips[-1].stop) == (0, rows)
        return {s.stop - s.start for s in strips[:-1]}

    assert heights(1, 6388, 9576) == {stacking.STRIP_PIXELS // 9576}
    assert heights(2000, 2048, 2048) == {stacking.LEAST_ROWS}
    (many,) = heights(100_000, 2048, 2048)
    assert many == 1


def test_a_frame_that_changes_while_it_is_combined_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_of(tmp_path, 5)
    monkeypatch.setattr(stacking, "STRIP_PIXELS", COLS)
    strips = combined_strips(stack, REFERENCE, None, None, Clipping(4.5, 0.01))
    next(strips)
    stack.paths[3].write_bytes(b"short")  # type: ignore[union-attr]
    with pytest.raises(FrameError, match=r"changed its size.*3\.fits"):
        list(strips)
