import gc

import pytest
import torch

from deqlight.testing.timing import interleaved, machine, median_ratio, stop_watch


def test_all_take_turns_and_each_round_begins_at_the_other_end():
    order, ticks = [], iter(range(1000))
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    times = interleaved(runs, 2, warm_up=1, clock=lambda: next(ticks))
    assert "".join(order) == "abc" + "abc" + "cba"
    assert times == {name: [1, 1] for name in "abc"}


def test_the_collector_does_not_run_meanwhile_and_does_afterwards():
    seen = []
    interleaved({"a": lambda: seen.append(gc.isenabled())}, 1, warm_up=0)
    assert seen == [False] and gc.isenabled()


def test_a_ratio_is_taken_round_by_round():
    assert median_ratio([2.0, 20.0, 9.0], [1.0, 10.0, 3.0]) == 2.0  # the slow round slows both
    with pytest.raises(ValueError, match="zip"):
        median_ratio([1.0], [1.0, 2.0])


def test_the_watch_of_the_processor_counts_work_and_not_sleep():
    watch = stop_watch(torch.device("cpu"))
    started = watch()
    sum(range(100_000))
    assert watch() > started


def test_a_figure_says_where_it_belongs():
    about = machine()
    assert about["torch"] == torch.__version__ and about["threads"] == torch.get_num_threads()
    assert all(about[key] for key in ("cpu", "system", "python"))
