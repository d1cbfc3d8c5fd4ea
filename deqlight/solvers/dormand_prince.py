"""Station: the integrator. The methods of Dormand and Prince, of order 5 and of order 8."""

from __future__ import annotations

from .base import SolverInfo
from .explicit import ExplicitRungeKutta
from .tableau import Tableau, interpolant

__all__ = ["Dopri5", "Dopri8"]

DOPRI5 = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0)


class Dopri5(ExplicitRungeKutta):
    """The method of Dormand and Prince, order 5 with an embedded one of order 4.

    Order 5, seven stages, six evaluations a step after the first (the last stage is the next step's first); on a
    layered term, where the next layer's field is another, seven. The usual choice under a `PID` controller. Between
    the ends it is Shampine's quartic, at no evaluation. Not to be confused with `Dopri8`, nor with `Tsit5`, which has
    as many stages.

    Reference: Dormand & Prince, J. Comput. Appl. Math. 6 (1980); Hairer, Nørsett & Wanner, §II.5, Table 5.2;
    Shampine, Math. Comp. 46 (1986).
    """

    tableau = Tableau(
        c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        a=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            DOPRI5[:-1],
        ),
        b=DOPRI5,
        b_error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
        dense=interpolant(
            DOPRI5,
            (
                -12715105075 / 11282082432,
                0.0,
                87487479700 / 32700410799,
                -10690763975 / 1880347072,
                701980252875 / 199316789632,
                -1453857185 / 822651844,
                69997945 / 29380423,
            ),
        ),
    )
    info = SolverInfo(
        order=5,
        nfe_step=6,
        nfe_start=1,
        error_order=5,
        dense_order=5,
        stability=3.3,
        fsal=True,
        continuous_field=True,
        reference="Dormand & Prince 1980; Hairer, Nørsett & Wanner 1993, Table II.5.2",
    )


# fmt: off
NODES = (
    0.0, 0.05260015195876773, 0.0789002279381516, 0.1183503419072274, 0.2816496580927726, 1 / 3, 1 / 4, 4 / 13,
    127 / 195, 3 / 5, 6 / 7, 1.0, 1.0,
)
"""Twelve stages, and the first of the next step. The numbers are those of Hairer's code DOP853."""

ROWS = (
    (),
    (0.05260015195876773,),
    (0.0197250569845379, 0.0591751709536137),
    (0.02958758547680685, 0.0, 0.08876275643042054),
    (0.2413651341592667, 0.0, -0.8845494793282861, 0.924834003261792),
    (0.037037037037037035, 0.0, 0.0, 0.17082860872947386, 0.12546768756682242),
    (0.037109375, 0.0, 0.0, 0.17025221101954405, 0.06021653898045596, -0.017578125),
    (
        0.03709200011850479, 0.0, 0.0, 0.17038392571223998, 0.10726203044637328, -0.015319437748624402,
        0.008273789163814023,
    ),
    (
        0.6241109587160757, 0.0, 0.0, -3.3608926294469414, -0.868219346841726, 27.59209969944671,
        20.154067550477894, -43.48988418106996,
    ),
    (
        0.47766253643826434, 0.0, 0.0, -2.4881146199716677, -0.590290826836843, 21.230051448181193,
        15.279233632882423, -33.28821096898486, -0.020331201708508627,
    ),
    (
        -0.9371424300859873, 0.0, 0.0, 5.186372428844064, 1.0914373489967295, -8.149787010746927,
        -18.52006565999696, 22.739487099350505, 2.4936055526796523, -3.0467644718982196,
    ),
    (
        2.273310147516538, 0.0, 0.0, -10.53449546673725, -2.0008720582248625, -17.9589318631188, 27.94888452941996,
        -2.8589982771350235, -8.87285693353063, 12.360567175794303, 0.6433927460157636,
    ),
)

WEIGHTS = (
    0.054293734116568765, 0.0, 0.0, 0.0, 0.0, 4.450312892752409, 1.8915178993145003, -5.801203960010585,
    0.3111643669578199, -0.1521609496625161, 0.20136540080403034, 0.04471061572777259, 0.0,
)

FIFTH = (
    0.01312004499419488, 0.0, 0.0, 0.0, 0.0, -1.2251564463762044, -0.4957589496572502, 1.6643771824549864,
    -0.35032884874997366, 0.3341791187130175, 0.08192320648511571, -0.022355307863886294, 0.0,
)
"""The weights less those of the embedded method of order 5."""

THIRD = (31 / 127, *[0.0] * 7, 0.7338466882816118, 0.0, 0.0, 3 / 136, 0.0)
"""The weights of the embedded method of order 3."""

FURTHER = (
    (
        0.056167502283047954, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25350021021662483, -0.2462390374708025,
        -0.12419142326381637, 0.15329179827876568, 0.00820105229563469, 0.007567897660545699, -0.008298,
    ),
    (
        0.03183464816350214, 0.0, 0.0, 0.0, 0.0, 0.028300909672366776, 0.053541988307438566, -0.05492374857139099,
        0.0, 0.0, -0.00010834732869724932, 0.0003825710908356584, -0.00034046500868740456, 0.1413124436746325,
    ),
    (
        -0.42889630158379194, 0.0, 0.0, 0.0, 0.0, -4.697621415361164, 7.683421196062599, 4.06898981839711,
        0.3567271874552811, 0.0, 0.0, 0.0, -0.0013990241651590145, 2.9475147891527724, -9.15095847217987,
    ),
)
"""The stages at 1/10, 1/5 and 7/9 that the dense output needs besides."""

BENDS = (
    (
        -8.428938276109013, 0.0, 0.0, 0.0, 0.0, 0.5667149535193777, -3.0689499459498917, 2.38466765651207,
        2.117034582445028, -0.871391583777973, 2.2404374302607883, 0.6315787787694688, -0.08899033645133331,
        18.148505520854727, -9.194632392478356, -4.436036387594894,
    ),
    (
        10.427508642579134, 0.0, 0.0, 0.0, 0.0, 242.28349177525817, 165.20045171727028, -374.5467547226902,
        -22.113666853125306, 7.733432668472264, -30.674084731089398, -9.332130526430229, 15.697238121770845,
        -31.139403219565178, -9.35292435884448, 35.81684148639408,
    ),
    (
        19.985053242002433, 0.0, 0.0, 0.0, 0.0, -387.0373087493518, -189.17813819516758, 527.8081592054236,
        -11.57390253995963, 6.8812326946963, -1.0006050966910838, 0.7777137798053443, -2.778205752353508,
        -60.19669523126412, 84.32040550667716, 11.99229113618279,
    ),
    (
        -25.69393346270375, 0.0, 0.0, 0.0, 0.0, -154.18974869023643, -231.5293791760455, 357.6391179106141,
        93.40532418362432, -37.45832313645163, 104.0996495089623, 29.8402934266605, -43.53345659001114,
        96.32455395918828, -39.17726167561544, -149.72683625798564,
    ),
)
# fmt: on


class Dopri8(ExplicitRungeKutta):
    """The method of Dormand and Prince of order 8, known by its code DOP853, with embedded ones of order 5 and 3.

    Order 8, thirteen stages, twelve evaluations a step after the first (the last stage is the next step's first); on
    a layered term, thirteen. The choice for tight tolerances in float64. The two embedded methods together estimate
    the error, of order 8. Between the ends it is a polynomial of order 7, at three evaluations more for each step
    that is looked into. Not to be confused with Prince and Dormand's earlier pair of order 8 and 7, nor with `Dopri5`.

    Reference: Prince & Dormand, J. Comput. Appl. Math. 7 (1981); Hairer, Nørsett & Wanner, Solving Ordinary
    Differential Equations I, §II.5, §II.6 and §II.10.
    """

    tableau = Tableau(
        c=NODES,
        a=(*ROWS, WEIGHTS[:-1]),
        b=WEIGHTS,
        b_error=FIFTH,
        b_damp=tuple(b - third for b, third in zip(WEIGHTS, THIRD, strict=True)),
        dense=interpolant(WEIGHTS, *BENDS),
        extra=FURTHER,
    )
    info = SolverInfo(
        order=8,
        nfe_step=12,
        nfe_start=1,
        error_order=8,
        dense_order=8,
        stability=6.38,
        fsal=True,
        continuous_field=True,
        reference="Prince & Dormand 1981; Hairer, Nørsett & Wanner 1993, §II.10",
    )
