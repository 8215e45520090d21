"""Which models a campaign can carry, and what is compared with what."""

import numpy as np
import pytest
from made_masters import grid, scene, signal_of

from darkpipe.science.design import Campaign, can_leave_out, choose, make_unit, nearest_master, plan_fits
from darkpipe.science.models import EXP_1D, EXP_2D, EXP_T, TWO_COMPONENT, Reference
from darkpipe.science.models.base import move_reference


def campaign(cells, *, bias=True, name=lambda v: f"{v:.0f}"):
    t, e = (np.asarray(v, float) for v in cells)
    level = np.full(t.size, -1 if bias else 0)
    return Campaign(t, e, [f"T{name(v)}" for v in t], [f"texp{name(v)}" for v in e], level)


def planned(cells, wanted=(), **options):
    made = campaign(cells, **options)
    units, missing = plan_fits(made, wanted, float(np.mean(made.temperature_c)), 1.12)
    return [u.key for u in units], missing


JITTER = np.random.default_rng(0).normal(0, 0.1, 6)
GRID_33 = grid([-10, -5, 0], [30, 100, 300])
GLOW = ["two_component_glow", "exp_2d_glow"]
DESIGNS = {  # cells; what they carry with a bias; and without (None: just so many unknowns as cells, both are right)
    "grid of two by two": (grid([-10, 0], [30, 300]), ["exp_2d", "two_component"], None),
    "grid of three by three": (GRID_33, ["exp_2d", "two_component", *GLOW], ["exp_2d", "two_component", *GLOW]),
    "diagonal, balanced": (([-20, -10, 0], [300, 100, 30]), ["two_component", *GLOW], None),
    "diagonal, steep": (([-20, -10, 0], [30, 100, 300]), ["two_component", *GLOW], ["two_component"]),
    "one temperature": (grid([-5], [10, 30, 100]), ["exp_t/T-5"], ["exp_t/T-5"]),
    "one temperature, two exposures": (grid([-5], [10, 300]), ["exp_t/T-5"], []),
    "one exposure": (
        grid([-20, -10, 0], [100]),
        ["two_component", *GLOW, "exp_1d/texp100"],
        ["two_component", "exp_1d/texp100"],
    ),
    "one exposure, two temperatures": (grid([-10, 0], [100]), ["two_component", "exp_1d/texp100"], []),
    "one temperature that jitters": ((-5 + JITTER, [10, 30, 60, 100, 200, 300]), ["exp_t/T-5"], ["exp_t/T-5"]),
    "one exposure that jitters": (
        ([-10, -5, 0, 5], [100, 100.5, 99.8, 100.1]),
        ["two_component", *GLOW, "exp_1d/texp100"],
        ["two_component", "exp_1d/texp100"],
    ),
    "a single cell": (grid([-5], [100]), [], []),
    "one cell twice": (([-5, -5], [100, 100]), [], []),
}


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("bias", [True, False])
def test_what_a_design_carries(name, bias):
    cells, with_bias, without = DESIGNS[name]
    name_of = (lambda v: f"{v:.0f}") if "jitters" in name else (lambda v: f"{v:g}")
    keys, missing = planned(cells, bias=bias, name=name_of)
    expected = with_bias if bias else without
    assert expected is None or keys == expected
    for model in ("exp_2d", "two_component", "exp_1d", "exp_t", *GLOW):
        assert any(k.split("/")[0] == model for k in keys) != (model in missing)
    assert all(missing.values())


def test_models_of_one_axis_on_demand():
    keys, missing = planned(GRID_33, ["exp_1d"])
    assert keys == ["exp_2d", "two_component", *GLOW, "exp_1d/texp30", "exp_1d/texp100", "exp_1d/texp300"]
    assert list(missing) == ["exp_t"]
    keys, missing = planned(GRID_33, ["exp_t"])
    assert keys[4:] == ["exp_t/T-10", "exp_t/T-5", "exp_t/T0"]
    keys, missing = planned((GRID_33[0][:4], GRID_33[1][:4]), ["exp_t"])
    assert [k for k in keys if k.startswith("exp_t")] == ["exp_t/T-10"]  # the other temperature has one exposure
    assert not any(k.startswith("exp_t") for k in missing)


def test_the_wider_the_span_the_better():
    """Two exposures or temperatures far apart tell a slope better than near ones, and are never refused for it."""
    for exposures in ([100, 130], [30, 300], [5, 300], [1, 300], [0.3, 300]):
        assert planned(grid([-5], exposures), name=str)[0] == ["exp_t/T-5.0"], exposures
    for temperatures in ([-1, 0], [-5, 0], [-20, 0], [-40, 0], [-60, 0]):
        t, e = grid(temperatures, [100])
        assert EXP_1D.lacks(t, e, np.full(t.size, -1), Reference(float(t.mean()))) is None, temperatures


def test_three_cells_in_an_l_carry_three_parameters():
    """Two exposures at one temperature give gamma, two temperatures at one exposure B."""
    cells = ([-10, -10, 0], [30, 300, 300])
    assert planned(cells)[0] == ["exp_2d", "two_component"]


def test_what_is_planned_can_be_fitted():
    """Exact masters give exact darks, at a cell that was never taken too, for all designs that carry a model."""
    models = {m.name: m for m in (EXP_2D, TWO_COMPONENT, EXP_T, EXP_1D)}
    for cells, keys, _ in DESIGNS.values():
        for model in (models[k.split("/")[0]] for k in keys if k not in GLOW):
            t, e = (np.asarray(v, float) for v in cells)
            bright = np.array([2000.0, 20_000.0])
            amplitude = bright / 200 if model is TWO_COMPONENT else bright
            made = scene(amplitude, model=model, cells=(t, e), diffusion_adu_s=amplitude / 2, gain=np.inf)
            fitted = made.with_signal(made.signal).fit(weak=False)
            np.testing.assert_allclose(signal_of(made.problem, fitted.parameters), made.signal, rtol=0.01, atol=0.5)
            largest = made.problem.free.sum()
            assert np.all(np.linalg.matrix_rank(made.problem.design) >= min(largest, 2) - 1)


def test_references_of_a_unit():
    t, e = GRID_33
    unit = make_unit(EXP_2D, "", tuple(range(9)), t, e, -7.0, 1.2)
    assert unit.map_reference == Reference(-10.0, 1.0)
    assert -10 < unit.fit_reference.temperature_c < 0
    assert 30 < unit.fit_reference.exposure_s < 300
    linear = make_unit(TWO_COMPONENT, "", tuple(range(9)), t, e, -7.0, 1.2)
    assert linear.fit_reference == linear.map_reference == Reference(-7.0, 1.0, 1.2)
    assert unit.key == "exp_2d"
    assert make_unit(EXP_T, "T-5.0C", (0, 1), t[:2], e[:2], 0.0, 1.12).key == "exp_t/T-5.0C"


def test_parameters_are_quoted_at_the_coldest_cell_and_one_second():
    t, e = GRID_33
    made = scene(np.array([500.0]), cells=(t, e), gamma=0.98, b_per_k=0.13)
    unit = make_unit(EXP_2D, "", tuple(range(9)), t, e, 0.0, 1.12)
    a = move_reference(EXP_2D, made.truth, np.zeros((6, 1)), unit.fit_reference, unit.map_reference)[0][0, 0]
    np.testing.assert_allclose(a * e**0.98 * np.exp(0.13 * (t + 10)), made.signal[:, 0], rtol=1e-10)


def test_which_cells_can_be_left_out():
    t, e = grid([-10, 0], [30, 300])
    two = campaign((t, e))
    unit = make_unit(TWO_COMPONENT, "", (0, 1, 2, 3), t, e, -5.0, 1.12)
    assert all(can_leave_out(unit, two, k) for k in range(4))
    # the only warm cell
    cells = campaign(([-10, -10, 0], [30, 300, 300]))
    unit = make_unit(TWO_COMPONENT, "", (0, 1, 2), cells.temperature_c, cells.exposure_s, -5.0, 1.12)
    assert [can_leave_out(unit, cells, k) for k in range(3)] == [True, True, False]
    single = campaign(([-5, -5], [30, 300]))
    unit = make_unit(EXP_T, "T-5", (0, 1), single.temperature_c, single.exposure_s, -5.0, 1.12)
    assert not any(can_leave_out(unit, single, k) for k in range(2))
    nine = campaign(GRID_33)
    unit = make_unit(EXP_2D, "", tuple(range(9)), *GRID_33, -5.0, 1.12)
    assert all(can_leave_out(unit, nine, k) for k in range(9))


def test_positions_of_a_unit_are_not_those_of_the_campaign():
    whole = campaign(GRID_33)
    unit = make_unit(EXP_T, "T0", (6, 7, 8), GRID_33[0][6:], GRID_33[1][6:], 0.0, 1.12)
    assert all(can_leave_out(unit, whole, k) for k in range(3))
    lone = make_unit(EXP_T, "T0", (6, 7), GRID_33[0][6:8], GRID_33[1][6:8], 0.0, 1.12)
    assert not any(can_leave_out(lone, whole, k) for k in range(2))


def test_the_master_that_a_user_would_scale():
    t, e = (np.array(v, float) for v in ([-10, -10, -10, 0, 5], [30, 100, 300, 300, 30]))
    assert [nearest_master(k, t, e) for k in range(5)] == [2, 2, 1, 4, 3]
    assert nearest_master(0, t[:1], e[:1]) is None
    # the same temperature to the last bit is not asked for; of two equally near temperatures the longer exposure
    assert nearest_master(0, np.array([-5.0, -5.0 + 1e-9, -5.0]), np.array([10.0, 300, 100])) == 1
    assert nearest_master(1, np.array([-10.0, 0, 10]), np.array([30.0, 10, 100])) == 2


def test_the_smallest_error_is_chosen():
    assert choose({"exp_2d": 1.2, "two_component": 1.1})[0] == "two_component"
    best, why = choose({"exp_2d": 1.1, "two_component": 1.21, "exp_t/T0": None})
    assert best == "exp_2d"
    assert "10.00 % better than two_component" in why
    assert choose({"two_component": 1.1, "exp_2d": 1.1})[0] == "exp_2d"  # a tie does not depend on the order
    assert choose({"two_component": float("nan"), "exp_2d": 2.0})[0] == "exp_2d"
    best, why = choose({"exp_t/T0": None, "two_component": None})
    assert best == "two_component"
    assert "cannot be compared" in why
    assert choose({"exp_t/T0": None, "exp_t/T5": None})[0] == "exp_t/T0"
    assert "the only one" in choose({"exp_2d": 1.0, "two_component": None})[1]


def test_a_campaign_describes_itself():
    text = campaign(grid([-10, 0], [30, 300]), bias=False).describe()
    assert text == "this campaign has -10, 0 °C and 30, 300 s in 4 cell(s) and no bias"
    assert "…" in campaign(grid(np.arange(20), [1])).describe()
