"""Compare served visitors with those the model was trained on: do they differ beyond chance?

The measure is the population stability index (PSI) of each feature and of the score: the sum
of (p - q) ln(p / q) over bins, with p and q the shares of training and of serving. By
convention 0.1 is worth a look and 0.25 is a large shift. Each visitor counts once, however
many rows they have.

How large PSI gets by chance depends on the data. It is measured by a permutation test:
visitors are assigned to training and serving at random, again and again. An alarm needs a PSI
above 0.1 and above that of every random assignment, and there are so many assignments that
one report in a hundred raises an alarm if nothing has changed.

Example: ``measure_drift(training, served).alarms`` -> ``["first_mkt_medium_l30d"]``
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

import numpy as np
import numpy.typing as npt
import pandas as pd

from prospect_lib.aggregation.definitions import COLUMNS
from prospect_lib.errors import DataError, TooFewError
from prospect_lib.model.rows import Floats

Codes = npt.NDArray[np.int64]  # a number per row: its visitor, or its bin

#: PSI that is worth a look.
WORTH_A_LOOK = 0.1
#: Served visitors below which nothing is said: a few testers differ from everybody.
LEAST_VISITORS = 20
#: Probability that a report raises an alarm, in any feature, though nothing has changed.
FALSE_ALARM = 0.01
#: The column of the model's scores.
SCORE = "score"
_QUANTILES = np.linspace(0.1, 0.9, 9)  # the edges between a number's ten bins
_MIN_SHARE = 1e-4  # instead of an empty bin's 0, whose PSI is infinite
_NOT_FEATURES = (*COLUMNS, "day_of_week")
_CHUNK = 200  # random assignments held in memory at once


@dataclass(frozen=True)
class DriftReport:
    """How far served visitors are from those trained on.

    Attributes:
        table: per feature, and ``score``: ``psi``; ``noise``, the largest PSI among the
            random assignments; ``alarm``; ``moved``, the bin that changed most.
        visitors: number of visitors that were served.
        needed: about how many it takes for a PSI of 0.1 to exceed the noise in every feature.
    """

    table: pd.DataFrame
    visitors: int
    needed: int

    @property
    def alarms(self) -> list[str]:
        """Features with an alarm, largest PSI first."""
        alarms = self.table[self.table["alarm"]].sort_values("psi", ascending=False)
        return [str(name) for name in alarms.index]

    def advice(self) -> list[str]:
        """Return one line per alarm: what moved, and what to do next."""
        return [
            f"{name}: PSI {row.psi:.2f}, by chance at most {row.noise:.2f}; {row.moved}. "
            f"{_next_step(str(name))}"
            for name, row in self.table.loc[self.alarms].iterrows()
        ]

    def summary(self) -> str:
        """Return the result in one line."""
        features = ", ".join(self.alarms) or "no feature moved beyond chance"
        summary = f"{self.visitors:,} visitors against training: {features}."
        if self.visitors >= self.needed:
            return summary
        return (
            f"{summary} So few visitors reveal only large changes: {self.needed:,} would reveal "
            "a PSI of 0.1 in every feature."
        )


def measure_drift(
    training: pd.DataFrame,
    served: pd.DataFrame,
    *,
    false_alarm: float = FALSE_ALARM,
    seed: int = 0,
) -> DriftReport:
    """Compare served rows with training rows, column by column.

    ``day_of_week`` is left out: a single day has only one.

    Args:
        training: the key first, ``anchor_ts``, the features and optionally ``score``.
        served: the same columns.
        false_alarm: probability of an alarm in any feature though nothing has changed.
        seed: of the random assignments.
    Raises:
        DataError: there are no rows, or no common columns.
        TooFewError: fewer than ``LEAST_VISITORS`` were served.

    >>> training = pd.DataFrame({"domain_userid": range(200), "channel": "search"})
    >>> training["anchor_ts"] = pd.Timestamp("2026-01-31")
    >>> measure_drift(training, training.tail(90).assign(channel="email")).alarms
    ['channel']
    """
    key = str(training.columns[0])
    unused = (key, *_NOT_FEATURES)
    columns = [c for c in training.columns if c in served.columns and c not in unused]
    if not columns or key not in served.columns or training.empty or served.empty:
        raise DataError(
            f"nothing to compare: {len(training)} rows of training, {len(served)} served, common "
            f"columns {columns}. Give both the model's features."
        )
    trained, visitors = _visits(training, served, key), _factorized(served[key])
    number = int(visitors.max()) + 1
    if number < LEAST_VISITORS:
        raise TooFewError(
            f"too few to say: {number} visitors were served, expected {LEAST_VISITORS} or more to "
            "compare with those of training. Audit a longer time."
        )
    comparisons = {c: _Comparison(training[c], served[c], trained, visitors) for c in columns}
    assignments = ceil(len(columns) / false_alarm) - 1
    noise = dict.fromkeys(columns, 0.0)
    for chosen in _random_visitors(int(trained.max()) + 1 + number, number, assignments, seed):
        for column, comparison in comparisons.items():
            by_chance = float(comparison.psi_if_served(chosen).max())
            noise[column] = max(noise[column], by_chance)
    table = pd.DataFrame.from_dict(
        {column: comparisons[column].row(noise[column]) for column in columns}, orient="index"
    )
    needed = ceil(number * table["noise"].max() / WORTH_A_LOOK)
    return DriftReport(table, number, needed)


def psi(training: Floats, served: Floats) -> Floats:
    """Return the population stability index of two lists of shares, over their last axis.

    >>> float(psi(np.array([0.5, 0.5]), np.array([0.6, 0.4])).round(4))
    0.0405
    """
    p, q = np.maximum(training, _MIN_SHARE), np.maximum(served, _MIN_SHARE)
    index: Floats = ((q - p) * np.log(q / p)).sum(axis=-1)
    return index


class _Comparison:
    """The visitors of one column by bin, those of training first, then those served."""

    def __init__(
        self,
        training: "pd.Series[float]",
        served: "pd.Series[float]",
        trained: Codes,
        visitors: Codes,
    ) -> None:
        training_bins, served_bins, self.labels = _binned(training, served)
        by_bin = [
            _visitors_by_bin(trained, training_bins, len(self.labels)),
            _visitors_by_bin(visitors, served_bins, len(self.labels)),
        ]
        self.trained, self.number = len(by_bin[0]), len(by_bin[1])
        self.visitors = np.concatenate(by_bin)
        self.total = self.visitors.sum(axis=0)

    def shares_if_served(self, served: Floats) -> tuple[Floats, Floats]:
        """Return shares by bin of training and serving, for counts by bin that are served.

        One more visitor, who is as training is, keeps an empty bin from an infinite PSI.
        """
        training = (self.total - served) / self.trained
        return training, (served + training) / (self.number + 1)

    def psi_if_served(self, chosen: Floats) -> Floats:
        """Return the PSI for each row of ``chosen``, which is 1 for visitors that are served."""
        return psi(*self.shares_if_served(chosen @ self.visitors))

    def row(self, noise: float) -> dict[str, object]:
        """Return the report's row for the visitors that really were served."""
        counts = self.visitors[self.trained :].sum(axis=0)
        training, served = self.shares_if_served(counts)
        value = float(psi(training, served))
        now = counts / self.number
        most = int(np.abs(now - training).argmax())
        return {
            "psi": value,
            "noise": noise,
            "alarm": value > max(noise, WORTH_A_LOOK),
            "moved": f"{self.labels[most]}: {training[most]:.0%} in training, {now[most]:.0%} now",
        }


def _random_visitors(all_visitors: int, served: int, times: int, seed: int) -> Iterator[Floats]:
    """Yield chunks of random assignments: a row each, 1 for the visitors that are served."""
    generator = np.random.default_rng(seed)
    for start in range(0, times, _CHUNK):
        chosen = np.zeros((min(_CHUNK, times - start), all_visitors))
        for row in chosen:
            row[generator.choice(all_visitors, served, replace=False)] = 1
        yield chosen


def _visitors_by_bin(visitors: Codes, bins: Codes, number: int) -> Floats:
    """Return an array of visitors by bin: each visitor's row adds up to 1."""
    weights = 1 / np.bincount(visitors)[visitors]
    size = (int(visitors.max()) + 1, number)
    counts = np.bincount(visitors * number + bins, weights, minlength=size[0] * size[1])
    by_bin: Floats = counts.astype(np.float64).reshape(size)
    return by_bin


def _binned(
    training: "pd.Series[float]", served: "pd.Series[float]"
) -> tuple[Codes, Codes, list[str]]:
    """Return both as bin numbers, and the bins' labels.

    The bins are tenths of the training's numbers, or its values; the last is for missing.
    """
    if pd.api.types.is_numeric_dtype(training) and training.dtype != bool:
        known = training.dropna()
        edges = np.unique(np.quantile(known, _QUANTILES)) if len(known) else np.zeros(0)
        bins = [np.searchsorted(edges, s.to_numpy(float), side="left") for s in (training, served)]
        labels = [*(f"up to {edge:g}" for edge in edges), "more", "missing"]
    else:
        values = sorted(training.dropna().astype(str).unique())
        place = {value: i for i, value in enumerate(values)}
        bins = [
            s.astype("object").map(lambda value: place.get(str(value), len(place))).to_numpy(int)
            for s in (training, served)
        ]
        labels = [*values, "a new value", "missing"]
    for numbers, column in zip(bins, (training, served), strict=True):
        numbers[column.isna().to_numpy()] = len(labels) - 1
    return bins[0], bins[1], labels


def _visits(training: pd.DataFrame, served: pd.DataFrame, key: str) -> Codes:
    """Number the training rows by visitor and period, each period as long as the served one."""
    length = max(served["anchor_ts"].max() - served["anchor_ts"].min(), timedelta(days=1))
    period = (training["anchor_ts"] - training["anchor_ts"].min()) // length
    return _factorized(training[key].astype(str) + " " + period.astype(str))


def _factorized(names: "pd.Series[str]") -> Codes:
    codes: Codes = pd.factorize(names)[0].astype(np.int64)
    return codes


def _next_step(name: str) -> str:
    if name == SCORE:
        return "The scores moved: look at the outcomes, and at how many exceed the threshold."
    compare = "Compare by channel and page, then train on recent weeks if it lasts."
    if "medium" in name or "campaign" in name:
        return f"The mix of channels moved: ask who runs the campaigns. {compare}"
    return f"Run the audit: a fault looks like drift. {compare}"
