"""Training by two gloo processes comes out as by one with the same samples, whatever the gradient rule."""

from itertools import chain

import pytest
from faulty_rules import Again, BatchWide, Collective, Enclosed, Nested, Stuck
from guest_solvers import Borrowed

from deqlight.controllers import PID
from deqlight.errors import ConformanceError, InputError
from deqlight.gradients import Backsolve, Checkpoint, Direct, Implicit, Reversible
from deqlight.solvers import (
    ETD2,
    RK4,
    Dopri5,
    Heun,
    Kvaerno3,
    Leapfrog,
    ReversibleHeun,
    ReversiblePair,
    Verlet,
)
from deqlight.testing import check_ddp, ddp_report, trained_by_two
from deqlight.testing.courses import courses

TOLERANCE = 1e-10  # float64, after three steps of the optimiser; sums in another order leave 1e-15

PAIRS = {
    "Direct": (Dopri5(), Direct()),
    "Checkpoint(None)": (Dopri5(), Checkpoint()),
    "Checkpoint(2)": (Dopri5(), Checkpoint(2)),
    "Checkpoint, implicit": (Kvaerno3(), Checkpoint(2)),
    "Backsolve": (Dopri5(), Backsolve()),
    "Backsolve, another solver": (Heun(), Backsolve(solver=Dopri5())),
    "Reversible, Leapfrog": (Leapfrog(), Reversible()),
    "Reversible, ReversibleHeun": (ReversibleHeun(), Reversible()),
    "Reversible, pair": (ReversiblePair(RK4()), Reversible()),
    "Reversible, partitioned": (Verlet(), Reversible()),
    "Checkpoint, semilinear": (ETD2(), Checkpoint(2)),
    "Implicit": (Dopri5(), Implicit()),
    "a guest's": (Borrowed(), Again()),
}

WAYS = {name: list(courses(*pair)) for name, pair in PAIRS.items()}
WAYS["Checkpoint, implicit"] = WAYS["Checkpoint, implicit"][:2]  # layers alone: an implicit step costs ten others

FAULTS = {"nested": Nested(), "enclosed": Enclosed(), "batch": BatchWide()}
BROKEN = {"broken": [next(courses(Heun(), Enclosed()))]}  # without find_unused_parameters
FAULTY = {name: [course for course in courses(Heun(), rule) if course.spare][:1] for name, rule in FAULTS.items()}
"""One way of each: layers of which two are one, and a parameter that nothing uses."""

ALL = WAYS | BROKEN | FAULTY


@pytest.fixture(scope="module")
def results():
    """All trainings, by two processes that are started once, and once more after those that break."""
    found = iter(trained_by_two(list(chain(*ALL.values()))))
    return {name: [next(found) for _ in ways] for name, ways in ALL.items()}


@pytest.mark.parametrize("name", PAIRS)
def test_parameters_do_not_depend_on_the_number_of_processes(results, name):
    for ranks in results[name]:
        assert ranks.why == "", ranks
        assert ranks.difference < TOLERANCE and ranks.drift == 0 and not ranks.unmoved, ranks


@pytest.mark.parametrize("name", PAIRS)
def test_ranks_choose_steps_of_their_own(results, name):
    measured = [ranks for ranks in results[name] if ranks.course.measured]
    assert all(one != other for one, other in (ranks.steps for ranks in measured))


def test_backward_inside_of_backward_is_found(results):
    """No error anywhere: gradients are added behind DistributedDataParallel's back."""
    (ranks,) = results["nested"]
    assert not ranks.error and ranks.difference > 1e-4 and ranks.drift > 1e-4
    assert "different networks" in ranks.why


def test_parameters_that_autograd_is_not_given_are_found(results):
    (ranks,) = results["enclosed"]
    assert not ranks.error and ranks.difference < TOLERANCE
    assert any(name.startswith("term.") for name in ranks.unmoved) and "no inputs" in ranks.why


def test_a_gradient_that_depends_on_the_size_of_the_batch_is_found(results):
    (ranks,) = results["batch"]
    assert ranks.difference > 1e-4 and ranks.drift == 0 and "other parameters" in ranks.why


def test_a_fault_that_only_two_processes_have_is_told_and_the_rest_goes_on(results):
    """DistributedDataParallel waits for parameters that autograd was not given; what comes behind is trained still."""
    (ranks,) = results["broken"]
    assert "reduction" in ranks.error and not ranks.row().ok and "no inputs" in ranks.why


def test_measured_steps_are_among_them():
    assert sum(any(course.measured for course in ways) for ways in WAYS.values()) >= 6


@pytest.mark.slow
def test_processes_that_do_not_end_are_ended():
    (ranks,) = trained_by_two([next(courses(Heun(), Stuck()))], patience=15)
    assert "did not finish in 15 s" in ranks.error


@pytest.mark.slow
def test_a_collective_inside_of_a_solve_with_measured_steps_is_found():
    (course,) = (course for course in courses(Heun(), Collective()) if course.measured and not course.spare)
    (ranks,) = trained_by_two([course])
    assert ranks.error or ranks.difference > TOLERANCE, ranks


@pytest.mark.slow
def test_the_front_door():
    assert check_ddp(Heun(), Checkpoint()).ok
    with pytest.raises(ConformanceError, match="Nested"):
        check_ddp(Heun(), Nested())


def test_what_cannot_be_trained_is_refused_before_anything_is_started():
    class Local(Direct):
        pass

    with pytest.raises(InputError, match=r"Local.* another process cannot import"):
        check_ddp(Heun(), Local())
    with pytest.raises(InputError, match="do not go together"):
        check_ddp(Heun(), Reversible())
    with pytest.raises(InputError, match='use norm="sample"'):
        ddp_report([(Heun(), Direct(), PID(1e-3, 1e-3, norm="joint"))])
