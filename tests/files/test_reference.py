"""Where the numbers of reference.yaml come from, and when they are kept."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from made_frames import made_frame
from simulated import PRESETS, Sensor, Shot, write_frame

from darkpipe.files.corrections import Tolerances, cells_of
from darkpipe.files.index import RawFrame
from darkpipe.files.masters import ReferenceValues, read_reference, write_reference
from darkpipe.files.reference import Overrides, reference_values, settled
from darkpipe.files.witnesses import GainCell, Witnesses, bias_witnesses, choose_witnesses

RECIPE = dataclasses.replace(PRESETS["tiny"], rows=96, cols=96, temperatures_c=(0.0,), hot_fraction=0.02)
AUTO = Overrides("auto", None, None, 0.95, None)


def taken(
    folder: Path, kind: str, exposure_s: float, n: int, recipe: object = RECIPE, **values: object
) -> list[RawFrame]:
    sensor = Sensor(recipe)  # type: ignore[arg-type]
    frames = []
    for i in range(n):
        path = folder / f"{kind}_{exposure_s:g}_{i}.fits"
        image = write_frame(path, sensor, Shot(kind, 0.0, exposure_s, i)).image
        frame = made_frame(
            path.name, kind=kind, exposure_s=exposure_s, rows=96, cols=96, median=float(np.median(image)),
            maximum=float(image.max()), set_point_c=0.0, temperature_c=0.0, n_low=int((image == 0).sum()), **values,
        )  # fmt: skip
        frames.append(dataclasses.replace(frame, path=path))
    return frames


def values_of(darks: list[RawFrame], biases: list[RawFrame], overrides: Overrides = AUTO) -> ReferenceValues:
    cells = cells_of(darks, Tolerances(0.5, 0.01))
    witnesses = choose_witnesses(darks, cells, [(0.0, biases)] if biases else [])
    return reference_values([*darks, *biases], witnesses, [0.0], overrides)[0]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[RawFrame], list[RawFrame]]:
    folder = tmp_path_factory.mktemp("reference")
    darks = [f for t in (30.0, 300.0) for f in taken(folder, "dark", t, 6)]
    return darks, taken(folder, "bias", 0.0, 6)


def test_measured_where_nothing_states_it(campaign: tuple[list[RawFrame], list[RawFrame]]) -> None:
    found = values_of(*campaign)
    assert found.gain_source == "measured"
    assert found.gain_e_per_adu == found.gain_measured_e_per_adu == pytest.approx(0.8, rel=0.1)
    assert found.read_noise_adu == pytest.approx(math.hypot(2.5 / 0.8, 1 / math.sqrt(12)), rel=0.05)
    assert found.notes == ()


def test_the_header_wins_and_a_disagreement_is_said(campaign: tuple[list[RawFrame], list[RawFrame]]) -> None:
    darks, biases = ([dataclasses.replace(f, egain=2.0) for f in frames] for frames in campaign)
    found = values_of(darks, biases)
    assert (found.gain_source, found.gain_e_per_adu) == ("header", 2.0)
    said = [note for note in found.notes if "disagrees" in note]
    assert len(said) == 1
    assert said[0].startswith("the header's gain of 2 e-/ADU disagrees with the measured 0.")
    assert said[0].endswith("the header is taken")
    right = [[dataclasses.replace(f, egain=0.82) for f in frames] for frames in campaign]
    assert values_of(*right).notes == ()
    assert values_of(darks, biases, dataclasses.replace(AUTO, gain_e_per_adu=0.8)).gain_source == "setting"


def test_without_biases_the_gain_comes_from_darks_alone(campaign: tuple[list[RawFrame], list[RawFrame]]) -> None:
    found = values_of(campaign[0], [])
    assert found.gain_e_per_adu == pytest.approx(0.8, rel=0.12)
    assert found.read_noise_adu == pytest.approx(math.hypot(2.5 / 0.8, 1 / math.sqrt(12)), rel=0.05)
    assert len(found.notes) == 1
    assert found.notes[0].startswith("no bias frames: the read noise is that of darks, carried on to no signal")
    assert found.read_noise_by_temperature == ()


def test_one_dark_a_cell(campaign: tuple[list[RawFrame], list[RawFrame]]) -> None:
    """Without biases nothing is measured, and that is said; the header's gain cannot be checked."""
    single = [campaign[0][0], campaign[0][6]]
    found = values_of(single, [])
    assert (found.gain_source, found.gain_measured_e_per_adu) == ("assumed", None)
    assert any("upper limit" in note for note in found.notes)
    stated = [dataclasses.replace(f, egain=2.0) for f in single]
    assert any("cannot check it" in note for note in values_of(stated, []).notes)


def test_a_set_read_noise_wins_and_a_disagreement_is_said(campaign: tuple[list[RawFrame], list[RawFrame]]) -> None:
    found = values_of(*campaign, dataclasses.replace(AUTO, read_noise_adu=4.0))
    assert found.read_noise_adu == 4.0
    assert found.read_noise_measured_adu == pytest.approx(3.14, rel=0.05)
    said = "the setting's read noise of 4 ADU disagrees with the measured 3.1"
    assert any(note.startswith(said) for note in found.notes)
    assert values_of(*campaign, dataclasses.replace(AUTO, read_noise_adu=3.2)).notes == ()


def test_the_read_noise_of_a_temperature(tmp_path: Path) -> None:
    values = ReferenceValues(
        1.0, 6.75, 2.0, "header", 62000.0, 0.0, -5.0,
        read_noise_measured_adu=6.75,
        read_noise_by_temperature=((-10.0, 6.57, 0.01), (-5.0, 6.74, 0.01), (0.0, 6.96, 0.01)),
    )  # fmt: skip
    factor = values.read_noise_factor
    assert factor(-10.0) == pytest.approx(6.57 / 6.75)
    assert factor(-5.0) == 1.0  # one error off
    assert factor(-2.5) == pytest.approx(0.5 * (1 + 6.96 / 6.75))
    assert (factor(-30.0), factor(20.0)) == (factor(-10.0), factor(0.0))
    assert dataclasses.replace(values, read_noise_by_temperature=()).read_noise_factor(0.0) == 1.0
    # what the setting says is the level, the data tell how it moves
    assert dataclasses.replace(values, read_noise_adu=7.5).read_noise_at(-10.0) == pytest.approx(7.3, abs=0.001)
    write_reference(tmp_path / "reference.yaml", values)
    assert read_reference(tmp_path / "reference.yaml") == values
    old = "scale_factor: 1.0\nread_noise_adu: 4.0\ngain_e_per_adu: 1.0\ngain_source: header\n"
    text = old + "saturation_raw: 6e4\nbias_exposure_s: 0.0\ntemperature_c: -5.0\n"
    (tmp_path / "old.yaml").write_text(text)
    assert read_reference(tmp_path / "old.yaml").read_noise_factor(0.0) == 1.0


def test_samples_at_zero_are_said(tmp_path: Path) -> None:
    low = dataclasses.replace(RECIPE, bias_level_adu=1.0)
    found = values_of(taken(tmp_path, "dark", 30.0, 2, low), taken(tmp_path, "bias", 0.0, 2, low))
    assert any("offset is set too low" in note for note in found.notes)


def test_the_scale_is_found_and_the_gain_follows_it(tmp_path: Path) -> None:
    """12 bits left-aligned in 16; the header's gain may be per raw or per native count."""
    recipe = dataclasses.replace(RECIPE, adc_bits=12, left_aligned=True, bias_level_adu=200.0)
    frames = [taken(tmp_path, k, t, 4, recipe, divisor=16) for k, t in (("dark", 300.0), ("bias", 0.0))]
    native = values_of(*frames)
    assert (native.scale_factor, native.gain_source) == (16.0, "measured")
    assert native.gain_e_per_adu == pytest.approx(0.8, rel=0.12)
    for stated in (0.8, 0.05):
        darks, biases = ([dataclasses.replace(f, egain=stated) for f in some] for some in frames)
        found = values_of(darks, biases)
        assert found.gain_e_per_adu == pytest.approx(0.8)
        as_what = "per native count" if stated == 0.8 else "per raw count"
        note = next(n for n in found.notes if n.startswith(f"the header's {stated:g} e-/ADU is taken as {as_what}"))
        assert f"the data give {found.gain_measured_e_per_adu:.3g}" in note
    assert values_of(*frames, dataclasses.replace(AUTO, scale_factor=1.0)).read_noise_adu > 40.0


def test_small_moves_keep_the_old_value(tmp_path: Path) -> None:
    path = tmp_path / "reference.yaml"
    old = ReferenceValues(1.0, 4.0, 1.5, "measured", 62000.0, 0.0, -5.0, 1.5, 0.05)
    errors = {"read_noise_adu": 0.01, "gain_measured_e_per_adu": 0.05, "temperature_c": 1.0}
    assert settled(path, old, errors) == old  # nothing there yet
    write_reference(path, old)
    near = dataclasses.replace(
        old, read_noise_adu=4.005, gain_e_per_adu=1.52, gain_measured_e_per_adu=1.52, temperature_c=-4.0
    )
    assert settled(path, near, errors) == old
    far = dataclasses.replace(
        old, read_noise_adu=4.2, gain_e_per_adu=1.6, gain_measured_e_per_adu=1.6, temperature_c=-3.0
    )
    assert settled(path, far, errors) == far


def test_a_set_temperature_is_taken_though_it_is_near_the_old_one(
    campaign: tuple[list[RawFrame], list[RawFrame]],
) -> None:
    darks, biases = campaign
    witnesses = choose_witnesses(darks, cells_of(darks, Tolerances(0.5, 0.01)), [(0.0, biases)])
    _, errors = reference_values(darks, witnesses, [0.0], dataclasses.replace(AUTO, reference_temperature_c=0.4))
    assert errors["temperature_c"] == 0.0
    values, errors = reference_values(darks, witnesses, [-10.0, -5.0, 0.0, 10.0], AUTO)
    assert (values.temperature_c, errors["temperature_c"]) == (-1.0, 1.0)


def test_witnesses_of_many_temperatures() -> None:
    stacks = [[made_frame(f"{t}_{i}.fits", kind="bias") for i in range(30)] for t in range(5)]
    assert [len(s) for s in bias_witnesses(stacks)] == [12] * 5
    assert [len(s) for s in bias_witnesses(stacks[:2])] == [20, 20]
    assert [len(s) for s in bias_witnesses([stacks[0], stacks[1][:1]])] == [20]
    assert [len(s) for s in bias_witnesses([stacks[0][:1], stacks[1][:1]])] == [1, 1]


def test_the_gain_is_measured_with_the_biases_nearest_in_temperature() -> None:
    darks = [
        made_frame(f"{t}_{i}.fits", set_point_c=t, temperature_c=t, median=1000.0 + t)
        for t in (-10.0, 0.0)
        for i in range(3)
    ]
    cold = [made_frame(f"c{i}.fits", kind="bias") for i in range(9)]
    warm = [made_frame(f"w{i}.fits", kind="bias") for i in range(3)]
    found = choose_witnesses(darks, cells_of(darks, Tolerances(0.5, 0.01)), [(-10.0, cold), (0.2, warm)])
    near = {cell.temperature_c: [f.file for f in cell.below] for cell in found.gain}
    assert near == {-10.0: [f.file for f in cold], 0.0: ["w0.fits", "w1.fits", "w2.fits"]}
    assert [len(s) for s in found.noise] == [9, 3]
    assert list(found.noise_c) == [-10.0, 0.2]


def test_one_dark_alone() -> None:
    darks = [made_frame("a.fits")]
    found = choose_witnesses(darks, cells_of(darks, Tolerances(0.5, 0.01)), [])
    assert found == Witnesses([darks], [found.noise_c[0]], [], False)


def test_single_darks_are_paired() -> None:
    darks = [made_frame(f"{t}.fits", exposure_s=t, median=1000.0 + t) for t in (10.0, 30.0, 150.0, 300.0)]
    biases = [made_frame(f"b{i}.fits", kind="bias") for i in range(3)]
    found = choose_witnesses(darks, cells_of(darks, Tolerances(0.5, 0.01)), [(darks[0].set_point_c, biases)])
    assert [[f.file for f in cell.frames] for cell in found.gain] == [
        ["300.0.fits", "150.0.fits"],
        ["30.0.fits", "10.0.fits"],
    ]
    assert all(cell.pair for cell in found.gain)
    by_file = {f.file: f for f in [*darks, *biases]}
    assert [GainCell.from_dict(cell.to_dict(), by_file) for cell in found.gain] == found.gain
