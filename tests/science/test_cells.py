"""Frames to cells, and frames that do not look like their cell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkpipe.science.cells import group_frames, odd_frames

NAN = np.nan
RNG = np.random.default_rng(4)


def grouped(set_point, measured, exposure, **options):
    """(temperature, exposure, members, source) of each cell."""
    cells = group_frames(set_point, measured, exposure, **options)
    return [(c.temperature.temperature_c, c.exposure_s, c.members, c.temperature.source) for c in cells]


def test_a_regulated_camera_has_the_temperatures_it_was_set_to():
    set_point = np.repeat([-10.0, -5.0, 0.0], 8)
    measured = set_point + RNG.uniform(-0.2, 0.2, 24)
    exposure = np.tile([30.0, 300.0], 12) + RNG.uniform(-0.0005, 0.0005, 24)
    found = grouped(set_point, measured, exposure)
    assert [f[0] for f in found] == [-10, -10, -5, -5, 0, 0]
    assert [round(f[1]) for f in found] == [30, 300] * 3
    assert all(f[3] == "set point" and len(f[2]) == 4 for f in found)
    assert sorted(m for f in found for m in f[2]) == list(range(24))


def test_a_set_point_of_zero_is_a_temperature():
    found = grouped([0.0] * 4, [0.1, -0.1, 0.2, 0.0], [60.0] * 4)
    assert found == [(0.0, 60.0, (0, 1, 2, 3), "set point")]
    assert grouped([0.0, 0.0], [NAN, NAN], [60.0] * 2)[0][0] == 0.0
    assert grouped([0.0, 0.0], [NAN, NAN], [60.0] * 2)[0][3] == "assumed"


def test_an_unregulated_camera_has_the_temperatures_it_read():
    measured = np.concatenate([12.0 + RNG.normal(0, 0.05, 5), 15.0 + RNG.normal(0, 0.05, 5)])
    found = grouped(np.full(10, NAN), measured, np.full(10, 60.0))
    assert [f[3] for f in found] == ["measured"] * 2
    assert found[0][0] == pytest.approx(measured[:5].mean())
    assert found[1][0] == pytest.approx(measured[5:].mean())
    # a set point that the cooler never reached is none
    found = grouped(np.full(10, -20.0), measured, np.full(10, 60.0))
    assert [f[0] for f in found] == pytest.approx([measured[:5].mean(), measured[5:].mean()])


def test_frames_taken_while_cooling_are_not_those_of_the_set_point():
    found = grouped([-10.0] * 6, [-10.0, -10.1, -9.9, -10.0, -7.0, -4.0], [60.0] * 6)
    assert [(f[0], f[2]) for f in found] == [(-10.0, (0, 1, 2, 3)), (-7.0, (4,)), (-4.0, (5,))]


def test_a_coarse_thermometer_does_not_split_a_cell():
    """Steps of 0.415 °C, as the STL-1001E reads."""
    set_point = np.repeat([-10.0, 0.0], 10)
    steps = 0.415 * np.array([0, 1, -1, 0, 1, 0, -1, 0, 0, 1])
    found = grouped(set_point, set_point + 0.1 + np.tile(steps, 2), np.full(20, 300.0))
    assert [(f[0], len(f[2]), f[3]) for f in found] == [(-10.0, 10, "set point"), (0.0, 10, "set point")]


def test_the_jitter_of_a_cell_is_in_its_error():
    steady = group_frames([-5.0] * 30, -5 + RNG.normal(0, 0.02, 30), [60.0] * 30)[0].temperature
    shaky = group_frames([-5.0] * 30, -5 + RNG.normal(0, 0.3, 30), [60.0] * 30)[0].temperature
    assert steady.temperature_c == shaky.temperature_c == -5.0
    assert steady.sigma_c < 0.05
    assert shaky.sigma_c == pytest.approx(0.3, rel=0.4)


def test_exposures_within_a_per_cent_or_a_millisecond_are_one():
    exposure = [300.0, 300.9, 299.1, 310.0, 0.5, 0.5004, 0.52, 0.001, 0.0]
    found = grouped([-5.0] * 9, [-5.0] * 9, exposure)
    assert [f[2] for f in found] == [(7, 8), (4, 5), (6,), (0, 1, 2), (3,)]
    wide = grouped([-5.0] * 9, [-5.0] * 9, exposure, exposure_tolerance=0.05, exposure_tolerance_s=0.05)
    assert [f[2] for f in wide] == [(7, 8), (4, 5, 6), (0, 1, 2, 3)]


def test_a_frame_without_temperature_belongs_nowhere():
    found = grouped([NAN, -5.0, NAN], [NAN, NAN, -5.1], [60.0] * 3)
    assert [f[2] for f in found] == [(1, 2)]
    assert grouped([-5.0, -5.0], [-5.0, -5.0], [NAN, -1.0]) == []


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_frames(n):
    found = grouped([-5.0] * n, [-5.0] * n, [60.0] * n)
    assert found == ([(-5.0, 60.0, tuple(range(n)), "set point")] if n else [])


def test_one_frame_without_cooler():
    assert grouped([NAN], [17.3], [60.0]) == [(17.3, 60.0, (0,), "measured")]


frame = st.tuples(
    st.sampled_from([-20.0, -10.0, 0.0, NAN]), st.floats(-21, 20) | st.just(NAN),
    st.sampled_from([0.01, 1.0, 30.0, 30.2, 300.0]),
)  # fmt: skip


@given(st.lists(frame, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter(frames, random):
    order = list(range(len(frames)))
    random.shuffle(order)
    columns = np.array(frames).T
    one = grouped(*columns)
    other = grouped(*columns[:, order])
    assert [sorted(f[2]) for f in one] == [sorted(order[m] for m in f[2]) for f in other]
    for a, b in zip(one, other, strict=True):
        assert a[:2] == pytest.approx(b[:2])
        assert a[3] == b[3]


@given(st.lists(frame, min_size=1, max_size=12))
def test_every_frame_is_in_one_cell_at_most_and_near_its_exposure(frames):
    found = grouped(*np.array(frames).T)
    members = [m for f in found for m in f[2]]
    assert len(members) == len(set(members))
    for i, (set_point, measured, _) in enumerate(frames):
        assert (i in members) == (np.isfinite(set_point) or np.isfinite(measured))
    for _, exposure, inside, _ in found:
        assert all(abs(frames[m][2] - exposure) <= max(0.02 * exposure, 0.002) for m in inside)


# ---- frames that do not belong

FLAT = [0.0, 0.0, 0.0, 0.0]


def verdicts(level, spread=None, gradient=None, *, read_noise=5.0, signal=20.0):
    """Which frames are odd."""
    n = len(level)
    corners = np.asarray(level, float)[:, None] + np.asarray(FLAT if gradient is None else gradient)
    corners = np.broadcast_to(corners, (n, 4))
    reasons = odd_frames(level, [6.0] * n if spread is None else spread, corners, read_noise, signal)
    assert len(reasons) == n
    return [i for i, r in enumerate(reasons) if r]


def test_a_cell_of_like_frames_loses_none():
    for n in (3, 4, 10, 100):
        level = 20 + RNG.normal(0, 0.3, n)
        spread = 6 + RNG.normal(0, 0.05, n)
        assert verdicts(level, spread, RNG.normal(0, 0.5, (n, 4))) == []


@pytest.mark.parametrize("n", [3, 4, 10])
@pytest.mark.parametrize("jump", [-40.0, 40.0, 1000.0])
def test_a_pedestal_jump_is_seen(n, jump):
    level = 20 + RNG.normal(0, 0.3, n)
    level[1] += jump
    assert verdicts(level) == [1]


def test_a_light_frame_among_darks_is_seen():
    level, spread = [20.0, 20.3, 1500.0, 19.8, 20.1], [6.0, 6.1, 40.0, 6.0, 5.9]
    assert verdicts(level, spread) == [2]
    # stars on a dark sky: the level is that of a dark, the spread is not
    assert verdicts([20.0, 20.3, 20.1, 19.8, 20.1], [6.0, 6.1, 12.0, 6.0, 5.9]) == [2]


def test_a_light_leak_in_one_corner_is_seen():
    corners = np.zeros((5, 4))
    corners[3] = [0, 60, 0, 0]
    assert verdicts([20.0, 20.2, 19.9, 20.0, 20.1], gradient=corners) == [3]
    # the glow of the amplifier is in all of them
    assert verdicts([20.0, 20.2, 19.9, 20.0, 20.1], gradient=[0, 400, 0, 0]) == []


def test_a_verdict_says_why():
    reasons = odd_frames([20.0, 20.1, 19.9, 90.0], [6.0] * 4, np.zeros((4, 4)), 5.0, 20.0)
    assert "+70.0 ADU off its cell's median" in reasons[3]
    assert reasons[:3] == ["", "", ""]


def test_what_drifts_by_less_than_the_noise_stays():
    assert verdicts([20.0, 25.0, 18.0, 22.0, 30.0], read_noise=5.0) == []  # within 3 read noises
    # a cell of 5,000 ADU whose temperature wanders by 5 %
    assert verdicts([5000.0, 4750.0, 5250.0, 5100.0, 5010.0], signal=5000.0) == []


def test_of_one_frame_nothing_can_be_said():
    assert verdicts([5000.0]) == []
    assert odd_frames([], [], np.zeros((0, 4)), 5.0, 0.0) == []


def test_of_two_frames_only_a_spread_tells():
    assert verdicts([20.0, 20.1], [6.0, 6.3]) == []
    assert verdicts([20.0, 600.0], [6.0, 6.3]) == []  # which of them?
    assert verdicts([20.0, 600.0], [6.0, 40.0]) == [1]
    assert verdicts([600.0, 20.0], [40.0, 6.0]) == [0]


def test_of_three_frames_the_odd_one_goes():
    assert verdicts([20.0, 20.1, 300.0]) == [2]
    assert verdicts([300.0, 20.0, 20.1]) == [0]


def test_more_than_half_are_never_odd():
    """Of many frames of two levels the majority stays."""
    assert verdicts([20.0, 20.1, 19.9, 20.0, 20.2, 200.0, 201.0]) in ([5, 6], [])


def test_a_wide_scatter_of_levels_does_not_hide_a_light_frame():
    """Two odd frames of six: their own scatter must not excuse them."""
    assert verdicts([20.0, 20.1, 19.9, 20.0, 900.0, 1500.0]) == [4, 5]


@given(
    st.lists(st.tuples(st.floats(0, 200), st.floats(1, 50)), min_size=0, max_size=9), st.randoms(use_true_random=False)
)
def test_the_order_of_frames_does_not_change_a_verdict(frames, random):
    order = list(range(len(frames)))
    random.shuffle(order)
    level, spread = (np.array([f[i] for f in frames]) for i in (0, 1))
    one = verdicts(level, spread)
    assert one == sorted(order[i] for i in verdicts(level[order], spread[order]))
    if len(frames) == 2 and level[0] != level[1]:
        assert len(one) < 2
