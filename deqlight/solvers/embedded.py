"""Station: the integrator. Pairs of order 3 and 5 whose last stage is the next step's first, for measured steps."""

from __future__ import annotations

from .base import SolverInfo
from .explicit import ExplicitRungeKutta
from .tableau import Tableau, interpolant

__all__ = ["Bosh3", "Tsit5"]

BOSH3 = (2 / 9, 1 / 3, 4 / 9, 0.0)

TSIT5 = (
    0.09646076681806523,
    0.01,
    0.4798896504144996,
    1.379008574103742,
    -3.290069515436081,
    2.324710524099774,
    0.0,
)


class Bosh3(ExplicitRungeKutta):
    """The pair of Bogacki and Shampine, order 3 with an embedded method of order 2.

    Order 3, four stages, three evaluations a step after the first (the last stage is the next step's first); on a
    layered term, four. The choice for loose tolerances. Between the ends it is Hermite's cubic, at no evaluation.
    Not to be confused with Bogacki and Shampine's pair of order 5 and 4.

    Reference: Bogacki & Shampine, Appl. Math. Lett. 2 (1989).
    """

    tableau = Tableau(
        c=(0.0, 1 / 2, 3 / 4, 1.0),
        a=((), (1 / 2,), (0.0, 3 / 4), BOSH3[:-1]),
        b=BOSH3,
        b_error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
        dense=interpolant(BOSH3),
    )
    info = SolverInfo(
        order=3,
        nfe_step=3,
        nfe_start=1,
        error_order=3,
        stability=2.51,
        fsal=True,
        continuous_field=True,
        reference="Bogacki & Shampine 1989",
    )


class Tsit5(ExplicitRungeKutta):
    """The pair of Tsitouras, order 5 with an embedded method of order 4 and small error coefficients.

    Order 5, seven stages, six evaluations a step after the first (the last stage is the next step's first); on a
    layered term, seven. Between the ends it is a quartic, at no evaluation. Not to be confused with `Dopri5`, which
    has as many stages.

    Reference: Tsitouras, Runge–Kutta pairs of order 5(4) satisfying only the first column simplifying assumption,
    Comput. Math. Appl. 62 (2011).
    """

    tableau = Tableau(
        c=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
        a=(
            (),
            (0.161,),
            (-0.008480655492356989, 0.335480655492357),
            (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
            TSIT5[:-1],
        ),
        b=TSIT5,
        b_error=(
            0.0017800110522257714,
            0.0008164344596567469,
            -0.007880878010261995,
            0.1447110071732629,
            -0.5823571654525552,
            0.45808210592918697,
            -1 / 66,
        ),
        dense=interpolant(
            TSIT5,
            (
                -1.0530884977290216,
                0.1017,
                2.490627285651253,
                -16.548102889244902,
                47.37952196281928,
                -34.87065786149661,
                2.5,
            ),
        ),
    )
    info = SolverInfo(
        order=5,
        nfe_step=6,
        nfe_start=1,
        error_order=5,
        dense_order=5,
        stability=3.5,
        fsal=True,
        continuous_field=True,
        reference="Tsitouras 2011",
    )
