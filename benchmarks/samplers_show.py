"""The tables and the picture of the benchmark of samplers, for the page that explains them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samplers_truth import NFES, geometric

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "sampling.md"
FIGURE = PAGE.with_suffix(".png")
BEGIN, END = "<!-- {}: written by benchmarks/samplers.py -->", "<!-- end -->"


def write(known: dict[str, Any]) -> None:
    """Put the tables into the page, each between its marks."""
    text = PAGE.read_text()
    for name, table in (
        ("errors", errors(known)),
        ("rules", rules(known)),
        ("best", best(known)),
        ("same grid", same(known)),
        ("speed", cost(known)),
    ):
        mark = BEGIN.format(name)
        before, _, rest = text.partition(mark)
        _, _, after = rest.partition(END)
        text = f"{before}{mark}\n{table}\n{END}{after}"
    PAGE.write_text(text)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def errors(known: dict[str, Any]) -> str:
    """Each sampler at its chosen setting."""
    found = known["reported"]["deqlight"]
    order = sorted(found, key=lambda name: geometric(found[name]["errors"]))
    rows = [[f"`{found[name]['setting']}`", *map(_number, found[name]["errors"])] for name in order]
    return table(["sampler, grid", *(f"{nfe} NFE" for nfe in NFES)], rows)


def rules(known: dict[str, Any]) -> str:
    """What the grid, the end and the rule for the last steps do."""
    found = known["rules"]
    head = list(next(iter(found.values())))
    return table(["sampler", *head], [[f"`{name}`", *map(_number, row.values())] for name, row in found.items()])


def best(known: dict[str, Any]) -> str:
    """The best setting against diffusers'."""
    found, rows = known["reported"]["best"], []
    for title, row in found.items():
        name = "of all" if title == "all" else title
        rows.append(
            [f"diffusers, {name}: `{row['diffusers']['setting']}`", *map(_number, row["diffusers"]["errors"]), ""]
        )
        rows.append(
            [
                f"deqlight: `{row['deqlight']['setting']}`",
                *map(_number, row["deqlight"]["errors"]),
                f"{row['ratio']:.2f}",
            ]
        )
    return table(["setting", *(f"{nfe} NFE" for nfe in NFES), "ratio of means"], rows)


def same(known: dict[str, Any]) -> str:
    """Method by method on the same levels: the ratio of errors, and both."""
    rows = []
    for name, found in known["same grid"].items():
        cells = [_pair(cell) for cell in found["nfe, deqlight, diffusers"]]
        rows.append([name, *cells])
    return table(["method", *(f"{nfe} NFE" for nfe in NFES)], rows)


def cost(known: dict[str, Any]) -> str:
    """Microseconds of an evaluation."""
    rows = [[f"`{name}`", f"{row['us']:.0f}", f"{row['of 2M']:.2f}"] for name, row in known["speed"].items()]
    return table(["sampler", "µs", "of diffusers' 2M"], rows)


def draw(known: dict[str, Any]) -> None:
    """Error against evaluations, at each sampler's chosen setting."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullLocator

    figure, axes = plt.subplots(figsize=(9, 5.2))
    curves = known["reported"]["curves"]
    order = sorted(curves, key=lambda name: curves[name][-1][1], reverse=True)
    axes.set_prop_cycle(color=[mpl.colormaps["tab20"](n) for n in (*range(0, 20, 2), 1, 5)])
    for number, name in enumerate(order):
        x, y = zip(*curves[name], strict=True)
        axes.loglog(x, y, marker="osD^vP*X<>hd"[number % 12], markersize=4, linewidth=1.2, label=name)
    other = known["reported"]["best"]["all"]["diffusers"]
    axes.loglog(NFES, other["errors"], "k--", linewidth=1.4, label="diffusers' best setting")
    axes.set(
        xlabel="evaluations of the network",
        ylabel="error, in standard deviations of the data",
        ylim=(None, 2),
        title="Twelve mixtures in 2 to 64 dimensions, each sampler at its best setting",
    )
    ticks = (5, 10, 20, 50, 100)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 1 else "–" if value == 1 else f"{value:.1f}"


def _pair(cell: list[float] | None) -> str:
    if cell is None:
        return "–"
    nfe, ours, theirs = cell
    ratio = "–" if theirs == float("inf") else f"{ours / theirs:.2f}"
    return f"{ratio} ({ours:.3g})" if nfe in NFES else f"{ratio} ({ours:.3g}, {nfe:.0f} NFE)"
