"""The kit's stochastic equations: their corrections are those of their diffusions, and their ends solve them."""

import pytest
import torch

from deqlight.brownian import Increments
from deqlight.solvers import SRK, Euler, Heun, LogODE
from deqlight.solving import solve
from deqlight.testing.equations import equations, exact_end, quiet
from deqlight.testing.problems import problem_for

EXACT = 1e-12  # relative, autograd's derivatives against those written down
FINE = 6e-5  # errors of SRK over 1,024 steps, twice what is measured
GRID = tuple(k / 1024 for k in range(1025))


@pytest.mark.parametrize("noise", equations)
def test_the_correction_is_half_the_derivative_of_the_diffusion_along_itself(noise, double):
    equation = equations[noise]
    for t, y in ((0.3, torch.tensor([0.4, -0.7])), (0.8, torch.tensor([-1.1, 0.2]))):
        g = equation.diffusion(t, y[None])[0].reshape(2, -1)
        jacobian = torch.autograd.functional.jacobian(lambda z, t=t: equation.diffusion(t, z[None])[0], y)
        jacobian = jacobian.reshape(2, -1, 2)  # (state, channels, state)
        half = 0.5 * torch.einsum("icj,jc->i", jacobian, g)
        told = torch.zeros(2) if equation.correction is None else equation.correction(t, y[None])[0]
        torch.testing.assert_close(told, half, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("noise", ["diagonal", "scalar"])
def test_ends_in_closed_form_are_those_of_fine_steps(noise):
    equation, brownian = equations[noise], Increments(base=GRID, seed=3)
    y0 = equation.starts(20)
    fine = solve(equation.term("ito", brownian), y0, GRID, solver=SRK()).y1
    assert float((fine - exact_end(equation, brownian, y0, GRID)).abs().max()) < FINE


def test_both_calculi_have_the_same_paths():
    equation, brownian = equations["general"], Increments(base=GRID, seed=3)
    y0 = equation.starts(20)
    exact = exact_end(equation, brownian, y0, GRID)
    ito = solve(equation.term("ito", brownian), y0, GRID, solver=Euler()).y1
    assert float((ito - exact).abs().max()) < 0.2  # Euler's error over 1,024 steps, twice what is measured


@pytest.mark.parametrize("solver", [SRK(), LogODE()], ids=repr)
def test_without_noise_a_stochastic_term_is_the_ordinary_one(solver):
    problem = problem_for(Heun.info)
    drawn = quiet(problem.term, solver.info, problem.y0)
    torch.testing.assert_close(drawn.drift(0.2, problem.y0), problem.term.vf(0.2, problem.y0), rtol=0, atol=0)
    assert float(drawn.diffusion(0.2, problem.y0).abs().max()) == 0
    assert float(drawn.rows(torch.tensor([1])).control(0.0, 0.5).w.abs().max()) == 0
