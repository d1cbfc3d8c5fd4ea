"""All noise schedules, with constants as published and others, and their papers' formulas, to fifty digits."""

from mpmath import mp, mpf

from deqlight.schedules import EDM, VE, VP, Cosine, CosineTable, DDPMTable, RectifiedFlow, SubVP, Trigonometric

mp.dps = 50

CONTINUOUS = [
    VP(),
    VP(beta_min=0.5, beta_max=0.5, t_min=1e-5),
    SubVP(t_min=1e-5),
    VE(),
    EDM(),
    Cosine(),
    Cosine(s=0.02, clip=0.9, steps=50),
    RectifiedFlow(),
    RectifiedFlow(sigma_min=1e-4, margin=1e-4),
    Trigonometric(),
]

TABLES = [DDPMTable(), CosineTable(), DDPMTable(steps=2), CosineTable(steps=50, s=0.02, clip=0.9)]

ALL = [*CONTINUOUS, *TABLES]


def formula(schedule, t):
    """α and σ as the schedule's paper writes them, at a time before any clipping."""
    t = mpf(t)
    match schedule:
        case VP(b0, b1):
            alpha = mp.exp(-t * t * (mpf(b1) - mpf(b0)) / 4 - t * mpf(b0) / 2)
            return alpha, mp.sqrt(1 - alpha**2)
        case SubVP(b0, b1):
            alpha = mp.exp(-t * t * (mpf(b1) - mpf(b0)) / 4 - t * mpf(b0) / 2)
            return alpha, 1 - alpha**2
        case VE(low, high):
            return mpf(1), mpf(low) * (mpf(high) / mpf(low)) ** t
        case EDM():
            return mpf(1), t
        case Cosine(s):
            alpha = mp.cos((t + mpf(s)) / (1 + mpf(s)) * mp.pi / 2) / mp.cos(mpf(s) / (1 + mpf(s)) * mp.pi / 2)
            return alpha, mp.sqrt(1 - alpha**2)
        case RectifiedFlow(low):
            return 1 - t, mpf(low) + (1 - mpf(low)) * t
        case Trigonometric():
            return mp.cos(mp.pi / 2 * t), mp.sin(mp.pi / 2 * t)


def times(schedule, count, margin=0.0):
    """Times from end to end; of those that end in zero or infinity, `margin` of the way within."""
    low, high = schedule.ends
    low, high = low + margin * (high - low), high - margin * (high - low)
    return [low + (high - low) * i / (count - 1) for i in range(count)]
