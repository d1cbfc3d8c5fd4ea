"""Samplers without noise: errors over few steps, against diffusers, and what they cost besides the network.

Flows of Gaussian mixtures are known exactly, and so are their noise estimates: errors are those of the samplers alone,
root mean squares over 64 samples of each of 12 mixtures in 2 to 64 dimensions, in standard deviations of the data;
means over mixtures and numbers of evaluations are geometric. Each setting is held against the flow from where it
begins to where it should end: at ρ = 0, or at the schedule's least noise. Solvers, grids and options, of both
libraries, are chosen on one set of mixtures (`--choose`, a quarter of an hour, kept in the JSON file), and all else is
measured on another. Needs diffusers and matplotlib: pip install diffusers scipy "deqlight[plots]".

    python benchmarks/samplers.py [--choose | --speed | --draw | --quick]
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from samplers_ours import SCHEDULES, ended, entrants, scored, settings
from samplers_pairs import compared
from samplers_peers import Peer, diffusers, peers
from samplers_show import draw, write
from samplers_speed import speed
from samplers_truth import NFES, Flows, flows, geometric

from deqlight.gaussians import CHOOSING, REPORTING
from deqlight.schedules import Karras, UniformLogSNR
from deqlight.solvers import DDIM, DEIS, AngularPC, DenoisingSolver, DPMpp2M, DPMpp3M, UniPC
from deqlight.testing.timing import machine

RESULTS = Path(__file__).with_suffix(".json")
FINER = (5, 6, 8, 10, 12, 15, 20, 30, 50, 100)
"""Numbers of evaluations of the curves."""

NO_FLOW = "without flow sigmas"


def rounded(values: list[float]) -> list[float]:
    """To four digits."""
    return [float(f"{value:.4g}") for value in values]


def choose_ours(at: Flows) -> dict[str, Any]:
    """For each class of samplers the setting of least error, over both schedules."""
    best: dict[str, Any] = {}
    for name in entrants():
        found: list[tuple[float, int, int]] = []
        tried = list(settings(name))
        for number, (solver, grid) in enumerate(tried):
            errors = [error for schedule in SCHEDULES.values() for error in scored(solver, grid, schedule, at)]
            found.append((geometric(errors), number, len(errors)))
        error, number, _ = min(found)
        best[name] = {"number": number, "setting": f"{tried[number][0]!r}, {tried[number][1]}", "error": error}
        print(f"  {name}: {best[name]}", flush=True)
    return best


def choose_theirs(at: Flows) -> dict[str, Any]:
    """For each scheduler of diffusers the options of least error, with and without the sigmas of flow models."""
    best: dict[str, Any] = {}
    for number, peer in enumerate(peers()):
        try:
            error = geometric(errors_of(peer, at))
        except (RuntimeError, ValueError):  # it cannot be run so: some of its equations are singular
            continue
        for key in (peer.name, *(() if peer.flow else (f"{peer.name}, {NO_FLOW}",))):
            if key not in best or error < best[key]["error"]:
                best[key] = {"number": number, "setting": str(peer), "error": error}
    for name, found in best.items():
        print(f"  {name}: {found}", flush=True)
    return best


def errors_of(peer: Peer, at: Flows) -> list[float]:
    """The error at each number of evaluations; 1 where it needs more."""
    found = []
    for nfe in NFES:
        ran = peer.run(nfe, at)
        found.append(1.0 if ran is None else geometric(at.errors(*ran[:3])))
    return found


def reported(chosen: dict[str, Any], at: Flows, finer: tuple[int, ...]) -> dict[str, Any]:
    """The chosen settings on other mixtures: errors at `NFES`, and curves."""
    schedule, ours, curves = SCHEDULES["DDPMTable"], {}, {}
    for name, best in chosen["deqlight"].items():
        solver, grid = list(settings(name))[best["number"]]
        ours[name] = {"setting": best["setting"], "errors": rounded(scored(solver, grid, schedule, at))}
        points = [(nfe, ended(solver, grid, schedule, nfe, at)) for nfe in finer]
        curves[name] = [[nfe, *rounded([geometric(errors)])] for nfe, errors in points if errors]
    every = list(peers())
    theirs = {
        name: {"setting": best["setting"], "errors": rounded(errors_of(every[best["number"]], at))}
        for name, best in chosen["diffusers"].items()
    }
    return {"deqlight": ours, "diffusers": theirs, "curves": curves, "best": versus(chosen, ours, theirs)}


def ruled(at: Flows) -> dict[str, dict[str, float]]:
    """The mean error over all numbers of evaluations, by the rule for the last steps, by grid, and by the end."""
    made: dict[str, Callable[[bool], DenoisingSolver]] = {
        "DDIM()": lambda lower: DDIM(),
        "DPMpp2M()": lambda lower: DPMpp2M(lower_final=lower),
        "DPMpp3M()": lambda lower: DPMpp3M(lower_final=lower),
        "UniPC(2)": lambda lower: UniPC(2, lower_final=lower),
        "UniPC(3)": lambda lower: UniPC(3, lower_final=lower),
        "DEIS(3)": lambda lower: DEIS(3, lower_final=lower),
        "DEIS(4)": lambda lower: DEIS(4, lower_final=lower),
        "AngularPC(3)": lambda lower: AngularPC(3, lower_final=lower),
        "AngularPC(4)": lambda lower: AngularPC(4, lower_final=lower),
    }
    found: dict[str, dict[str, float]] = {}
    for name, make in made.items():
        grid, default = make(True).grid, name.startswith(("DPM", "UniPC"))
        tried = {
            "lower orders at the end": (True, grid),
            "full order": (False, grid),
            "to 0": (default, replace(grid, to_zero=True)),
            "even log-SNR": (default, UniformLogSNR()),
            "Karras, 7": (default, Karras()),
        }
        schedule = SCHEDULES["DDPMTable"]
        means = [geometric(scored(make(lower), where, schedule, at)) for lower, where in tried.values()]
        found[name] = dict(zip(tried, rounded(means), strict=True))
    return found


def versus(chosen: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """What was best where it was chosen, here and there, and the ratio of their errors where it is reported."""

    def least(found: dict[str, Any]) -> str:
        return min(found, key=lambda name: found[name]["error"])

    own = least(chosen["deqlight"])
    rest = {name: best for name, best in chosen["diffusers"].items() if name.endswith(NO_FLOW)}
    rows = {}
    for title, name in (("all", least(chosen["diffusers"])), (NO_FLOW, least(rest))):
        a, b = ours[own], theirs[name]
        rows[title] = {
            "deqlight": a,
            "diffusers": b,
            "ratio": round(geometric(a["errors"]) / geometric(b["errors"]), 3),
            "ratios": rounded([x / y for x, y in zip(a["errors"], b["errors"], strict=True)]),
        }
    return rows


def main() -> None:
    """Measure, print, write the JSON, the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", action="store_true", help="choose settings anew, on the mixtures for that")
    parser.add_argument("--speed", action="store_true", help="the cost of steps alone; the rest is kept as it is")
    parser.add_argument("--draw", action="store_true", help="measure nothing: tables and picture of what there is")
    parser.add_argument("--quick", action="store_true", help="fewer points a curve, nothing written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="diffusers")
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not given.draw:
        diffusers().utils.logging.set_verbosity_error()
        if not given.speed:
            if given.choose or "chosen" not in known:
                at = flows(CHOOSING)
                known["chosen"] = {"deqlight": choose_ours(at), "diffusers": choose_theirs(at)}
            known["reported"] = reported(known["chosen"], flows(REPORTING), NFES if given.quick else FINER)
            known["rules"] = ruled(flows(REPORTING))
            known["same grid"] = compared(flows(REPORTING))
        known["speed"] = speed()
        known["machine"] = machine() | {"diffusers": diffusers().__version__}
    print(json.dumps({key: known[key] for key in ("speed", "machine")}, indent=1, ensure_ascii=False))
    print(json.dumps(known["reported"]["best"], indent=1, ensure_ascii=False))
    if not given.quick:
        RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
        write(known)
        draw(known)


if __name__ == "__main__":
    main()
