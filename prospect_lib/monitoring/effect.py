"""Does acting help? Conversions of sessions acted on, against those of sessions held out.

``serve --holdout 0.1`` leaves a random tenth of the sessions alone though the score says to act.
Both groups are sessions that the decision chose, so they differ by chance and by the action only.
A session counts once, from the first score that chose it, and as acted on even if the invitation
did not arrive (intention to treat).

Sources. Interval: R. G. Newcombe, Interval estimation for the difference between independent
proportions, Statistics in Medicine 17 (1998), 873-890, method 10. Sessions of one visitor resemble
each other: their number is divided by a design effect (J. N. K. Rao, A. J. Scott, A simple method
for the analysis of clustered binary data, Biometrics 48 (1992), 577-585), which compares the
variance over visitors with that of independent sessions. Sample size: J. L. Fleiss, B. Levin,
M. C. Paik, Statistical Methods for Rates and Proportions, 3rd edition (2003), chapter 4, for
groups of different size, without a correction for continuity.

Example: ``measure_outcomes(warehouse, served).effect().summary()``
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval, Ints
from prospect_lib.model.rows import Floats

NAMED_EFFECT = 0.05  # of the goal rate, for which a report names the sample size
POWER = 0.8
_Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Arm:
    """One side of the comparison: sessions with a known outcome, and those with the goal."""

    sessions: int
    goals: int

    @property
    def rate(self) -> float:
        """Return the share of sessions that reached the goal; NaN without sessions."""
        return self.goals / self.sessions if self.sessions else math.nan

    def interval(self, design_effect: float = 1.0) -> Interval:
        """Return the goal rate with Wilson's interval; 0 to 1 without sessions.

        Args:
            design_effect: the number of sessions is divided by it.

        >>> f"{Arm(100, 10).interval():.3f}"
        '0.100 [0.055, 0.174]'
        """
        if not self.sessions:
            return Interval(math.nan, 0.0, 1.0)
        n, rate = self.sessions / design_effect, self.rate
        centre, shrink = rate + _Z**2 / (2 * n), 1 + _Z**2 / n
        half = _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2))
        low, high = max(0.0, (centre - half) / shrink), min(1.0, (centre + half) / shrink)
        return Interval(rate, low, high)


@dataclass(frozen=True)
class Effect:
    """What acting adds to the goal rate of the sessions that a decision chose.

    Attributes:
        acted: the sessions acted on.
        held_out: the sessions of the holdout.
        share: of sessions in the holdout.
        design_effect: how many sessions count as one, because visitors have several; 1 or more.
        other_shares: number of sessions left out because the holdout had another share.
    """

    acted: Arm
    held_out: Arm
    share: float
    design_effect: float = 1.0
    other_shares: int = 0

    @property
    def difference(self) -> Interval:
        """Return the goal rate acted on minus held out, with its 95% interval."""
        acted, held = (arm.interval(self.design_effect) for arm in (self.acted, self.held_out))
        value = acted.value - held.value
        low = math.hypot(acted.value - acted.low, held.high - held.value)
        high = math.hypot(acted.high - acted.value, held.value - held.low)
        return Interval(value, value - low, value + high)

    def sessions_needed(self, effect: float = NAMED_EFFECT, share: float | None = None) -> int:
        """Return how many chosen sessions show an effect of the held-out goal rate.

        Args:
            effect: to find, such as 0.05 for five points.
            share: of the holdout; by default this one.
        Raises:
            DataError: no session was held out, or as :func:`sessions_needed`.
        """
        return sessions_needed(
            self.held_out.rate,
            effect,
            holdout=self.share if share is None else share,
            design_effect=self.design_effect,
        )

    def summary(self) -> str:
        """Return the result in two lines: the figures, and what they say."""
        figures = ", ".join(
            f"{arm.sessions:,} {name}"
            + (f" ({arm.rate:.1%} reached the goal)" if arm.sessions else "")
            for name, arm in (("acted on", self.acted), ("held out", self.held_out))
        )
        others = self.other_shares
        note = f"; {others:,} with another share of the holdout left out" if others else ""
        return f"Does acting help? Of the sessions chosen: {figures}{note}.\n{self.verdict()}"

    def verdict(self) -> str:
        """Return one or two sentences: the difference, and whether it is beyond noise."""
        for name, arm in (("held out", self.held_out), ("acted on", self.acted)):
            if not arm.sessions:
                return f"Not known: no session that was {name} has a known outcome yet."
        low, high = 100 * self.difference.low, 100 * self.difference.high
        points = f"{100 * self.difference.value:+.1f} points [{low:+.1f}, {high:+.1f}]"
        if low > 0:
            return f"{points}: acting helps, beyond noise."
        if high < 0:
            return f"{points}: acting harms, beyond noise. Do not act on this decision."
        try:
            sessions, half = self.sessions_needed(), self.sessions_needed(share=0.5)
        except DataError:
            return f"{points}: not known yet."
        return (
            f"{points}: not known yet. An effect of {100 * NAMED_EFFECT:g} points shows in "
            f"{sessions:,} chosen sessions (power {POWER:.0%}), with half of them held out in "
            f"{half:,}."
        )


def measure_effect(rows: pd.DataFrame, key: str) -> Effect | None:
    """Compare sessions acted on with sessions held out.

    Sessions under the latest share of the holdout count: with another share, or none, they are of
    other days, which may differ.

    Args:
        rows: of outcomes, in the order in which they were served: ``act``, ``held_out``,
            ``holdout_share``, ``served_session``, ``label`` and the key.
        key: name of the attribute key.
    Returns:
        ``None`` if no session was chosen while there was a holdout.
    """
    chosen = rows[(rows["act"] | rows["held_out"]) & (rows["holdout_share"] > 0)]
    if chosen.empty:
        return None
    first = chosen.drop_duplicates([key, "served_session"])
    share = float(chosen["holdout_share"].iloc[-1])
    sessions = first[first["holdout_share"] == share]
    goal, held = sessions["label"].to_numpy(float), sessions["held_out"].to_numpy(bool)
    acted_on, held_out = (Arm(len(goal[part]), int(goal[part].sum())) for part in (~held, held))
    return Effect(
        acted=acted_on,
        held_out=held_out,
        share=share,
        design_effect=_design_effect(goal, held, pd.factorize(sessions[key])[0]),
        other_shares=len(first) - len(sessions),
    )


def sessions_needed(
    base_rate: float,
    effect: float = NAMED_EFFECT,
    *,
    holdout: float = 0.1,
    power: float = POWER,
    design_effect: float = 1.0,
) -> int:
    """Return how many sessions, chosen by the decision, show an effect beyond noise (95%).

    Args:
        base_rate: goal rate of sessions that are not acted on, 0 to 1.
        effect: what acting adds to it, such as 0.05 for five points; may be negative.
        holdout: share of sessions held out.
        power: probability that an effect of this size is found.
        design_effect: how many sessions of the same visitors count as one.
    Raises:
        DataError: the goal rate with the effect is not between 0 and 1, or ``holdout`` or
            ``power`` are not.

    >>> [sessions_needed(0.1, 0.05, holdout=share) for share in (0.1, 0.2, 0.5)]
    [3993, 2223, 1372]
    """
    raised = base_rate + effect
    if not (0 <= base_rate <= 1 and 0 <= raised <= 1 and effect):
        raise DataError(
            f"a goal rate of {base_rate:.3g} with an effect of {effect:.3g}: expected two rates "
            "from 0 to 1 that differ, such as a rate of 0.1 and an effect of 0.05."
        )
    if not (0 < holdout < 1 and 0 < power < 1):
        raise DataError(
            f"holdout={holdout:.3g}, power={power:.3g}: expected numbers between 0 and 1, such as "
            "0.1 and 0.8."
        )
    common = holdout * base_rate + (1 - holdout) * raised
    without = common * (1 - common) / (holdout * (1 - holdout))  # variance if there is no effect
    within = base_rate * (1 - base_rate) / holdout + raised * (1 - raised) / (1 - holdout)
    distance = _Z * math.sqrt(without) + float(norm.ppf(power)) * math.sqrt(within)
    return math.ceil(design_effect * (distance / effect) ** 2)


def _design_effect(goal: Floats, held: npt.NDArray[np.bool_], visitor: Ints) -> float:
    """Return the variance of the difference over visitors, relative to independent sessions."""
    if held.all() or not held.any() or visitor.max() == 0:
        return 1.0
    rate = np.where(held, goal[held].mean(), goal[~held].mean())
    influence = np.where(held, -1 / held.sum(), 1 / (~held).sum()) * (goal - rate)
    independent = float((influence**2).sum())
    visitors = visitor.max() + 1
    clustered = float((np.bincount(visitor, influence) ** 2).sum()) * visitors / (visitors - 1)
    return max(1.0, clustered / independent) if independent else 1.0
