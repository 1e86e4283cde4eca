"""Do visitors look different from those the model was trained on, beyond chance?

The measure is the population stability index (PSI) of each feature and of the score:
the sum of (p - q) ln(p / q) over bins. By convention 0.1 is worth a look and 0.25 is much.
Each visitor counts once, however many rows he has: one who reads all day is one visitor.
How large PSI gets by chance is not a convention: visitors are drawn from the training rows,
as many as were served, and an alarm must exceed both.

Example: ``drift(training, served).alarms`` -> ``["first_mkt_medium_l30d"]``
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

from prospect_lib.errors import DataError
from prospect_lib.model.splits import Floats

Ints = npt.NDArray[np.int64]

WORTH_A_LOOK, MUCH = 0.1, 0.25
BINS, DRAWS, SCORE = 10, 300, "score"
FALSE_ALARM = 0.01  # of a whole report, all features together
COOL_DOWN = timedelta(days=3)
_LEAST = 1e-4  # share of an empty bin
_KEYS = ("domain_userid", "anchor_ts", "label", "weight", "p_true", "day_of_week")
_SHIFT = "Compare by channel and page, then train on recent weeks if it stays."


@dataclass(frozen=True)
class DriftReport:
    """How far served visitors are from those trained on.

    Attributes:
        table: by feature, and ``score``: ``psi``; ``noise``, the PSI that chance alone
            exceeds once in a hundred reports; ``alarm``; ``moved``, the bin that moved most.
        visitors: how many were served.
        needed: how many it takes for 0.1 to stand out from chance in every feature.
    """

    table: pd.DataFrame
    visitors: int
    needed: int

    @property
    def alarms(self) -> list[str]:
        """Features that moved by more than 0.1 and more than chance, most moved first."""
        found = self.table[self.table["alarm"]].sort_values("psi", ascending=False)
        return [str(name) for name in found.index]

    def advice(self) -> list[str]:
        """What to do next, in words; one line an alarm."""
        return [
            f"{name}: PSI {row.psi:.2f}, by chance at most {row.noise:.2f}; {row.moved}. "
            f"{_next(name)}"
            for name, row in self.table.loc[self.alarms].iterrows()
        ]

    def summary(self) -> str:
        """The outcome in one line, for people."""
        enough = "" if self.visitors >= self.needed else (
            f" So few visitors show only large changes: {self.needed:,} would show 0.1 everywhere."
        )  # fmt: skip
        what = ", ".join(self.alarms) or "no feature moved beyond chance"
        return f"{self.visitors:,} visitors against training: {what}.{enough}"


def drift(
    training: pd.DataFrame,
    served: pd.DataFrame,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> DriftReport:
    """Compare served rows with training rows, column by column.

    ``day_of_week`` is left out: a day has only one.

    Args:
        training: ``domain_userid``, ``anchor_ts``, the features and perhaps ``score``.
        served: the same columns.
    Raises:
        DataError: there are no rows, or no common columns.
    """
    names = [n for n in training.columns if n in served.columns and n not in _KEYS]
    if not names or training.empty or served.empty:
        raise DataError(
            f"nothing to compare: {len(training)} rows of training, {len(served)} served, common "
            f"columns {names}. Give both the model's features."
        )
    level = 1 - FALSE_ALARM / len(names)
    known, now = _Visits(_blocks(training, served)), _Visits(_factorized(served["domain_userid"]))
    drawn = known.draw(now.number, draws, seed)
    rows = {n: _compare(training[n], served[n], known, now, drawn, level) for n in names}
    table = pd.DataFrame.from_dict(rows, orient="index")
    visitors = now.number
    needed = int(np.ceil(visitors * table["noise"].max() / WORTH_A_LOOK))
    return DriftReport(table, visitors, needed)


def psi(training: Floats, served: Floats) -> float:
    """The population stability index of two lists of shares.

    Example: ``psi(np.array([.5, .5]), np.array([.6, .4]))`` -> 0.0405
    """
    p, q = np.maximum(training, _LEAST), np.maximum(served, _LEAST)
    return float(((q - p) * np.log(q / p)).sum())


class _Visits:
    """Rows by visitor; each visitor weighs one, shared by his rows."""

    def __init__(self, codes: Ints) -> None:
        self.codes, self.number = codes, int(codes.max()) + 1
        self._weights = 1 / np.bincount(codes)[codes]

    def counts(self, bins: Ints, number: int) -> Floats:
        """Visitors by bin: parts of one where his rows are in several."""
        found: Floats = np.bincount(bins, self._weights, minlength=number).astype(np.float64)
        return found

    def draw(self, visitors: int, draws: int, seed: int) -> Ints:
        """How often each visitor is in each of the draws of so many, with replacement."""
        even = np.full(self.number, 1 / self.number)
        times = np.random.default_rng(seed).multinomial(visitors, even, size=draws)
        return times.astype(np.int64)

    def drawn(self, times: Ints, bins: Ints, number: int) -> Floats:
        """Visitors by draw and bin."""
        each = np.zeros((self.number, number))
        np.add.at(each, (self.codes, bins), self._weights)
        found: Floats = times @ each
        return found


def _compare(
    training: "pd.Series[float]",
    served: "pd.Series[float]",
    known: _Visits,
    now: _Visits,
    drawn: Ints,
    level: float,
) -> dict[str, object]:
    codes, other, labels = _binned(training, served)
    expected = known.counts(codes, len(labels)) / known.number
    counts = now.counts(other, len(labels))
    chance = [
        psi(expected, _settled(each, expected)) for each in known.drawn(drawn, codes, len(labels))
    ]
    value, noise = psi(expected, _settled(counts, expected)), _quantile(np.array(chance), level)
    found = counts / now.number
    most = int(np.abs(found - expected).argmax())
    return {
        "psi": value,
        "noise": noise,
        "alarm": bool(value > max(noise, WORTH_A_LOOK)),
        "moved": f"{labels[most]}: {expected[most]:.0%} in training, {found[most]:.0%} now",
    }


def _settled(counts: Floats, expected: Floats) -> Floats:
    """Shares, with one more visitor who is as training is: an empty bin is no infinity."""
    shares: Floats = (counts + expected) / (counts.sum() + 1)
    return shares


def _quantile(chance: Floats, level: float) -> float:
    """So far out that draws cannot reach it: a gamma with the draws' mean and variance, its
    quantile by Wilson and Hilferty."""
    mean, variance = float(chance.mean()), float(chance.var())
    if variance < 1e-18:
        return mean
    shape = mean**2 / variance
    cube = 1 - 1 / (9 * shape) + NormalDist().inv_cdf(level) / (3 * shape**0.5)
    return float(mean * cube**3)


def _binned(
    training: "pd.Series[float]", served: "pd.Series[float]"
) -> tuple[Ints, Ints, list[str]]:
    """Both as bin numbers: tenths of the training's numbers or its values, and missing."""
    if pd.api.types.is_numeric_dtype(training) and training.dtype != bool:
        edges = np.unique(np.nanquantile(training, np.linspace(0, 1, BINS + 1)[1:-1]))
        both = [np.searchsorted(edges, s.to_numpy(float), side="left") for s in (training, served)]
        labels = [*(f"up to {edge:g}" for edge in edges), "more", "missing"]
    else:
        known = sorted(training.dropna().astype(str).unique())
        place = {value: i for i, value in enumerate(known)}
        both = [
            s.astype("object").map(lambda v: place.get(str(v), len(place))).to_numpy(int)
            for s in (training, served)
        ]
        labels = [*known, "a new value", "missing"]
    for codes, values in zip(both, (training, served), strict=True):
        codes[values.isna().to_numpy()] = len(labels) - 1
    return both[0], both[1], labels


def _blocks(training: pd.DataFrame, served: pd.DataFrame) -> Ints:
    """Training rows by visitor and stretch of time, each as long as the served one."""
    length = max(served["anchor_ts"].max() - served["anchor_ts"].min(), timedelta(days=1))
    stretch = (training["anchor_ts"] - training["anchor_ts"].min()) // length
    together = training["domain_userid"].astype(str) + " " + stretch.astype(str)
    return _factorized(together)


def _factorized(names: "pd.Series[str]") -> Ints:
    codes: Ints = pd.factorize(names)[0].astype(np.int64)
    return codes


def _next(name: object) -> str:
    if name == SCORE:
        return "The scores themselves moved: see the outcomes, and the threshold's volume."
    if "medium" in str(name) or "campaign" in str(name):
        return "The mix of channels moved: ask who runs the campaigns. " + _SHIFT
    return "Run the audit: a fault looks like drift. " + _SHIFT


class CoolDown:
    """Remembers what was said, so that an alarm is raised once and not every hour.

    Args:
        path: a small JSON file, made if need be.
        length: after how long the same alarm is raised again; earlier if PSI has doubled.
    """

    def __init__(self, path: Path, length: timedelta = COOL_DOWN) -> None:
        self._path, self._length = path, length

    def due(self, report: DriftReport, at: datetime) -> list[str]:
        """The alarms to raise now (aware); they are remembered as raised."""
        known = self._known()
        due = [name for name in report.alarms if self._is_due(report, known.get(name), name, at)]
        said = {n: {"at": at.isoformat(), "psi": float(report.table.loc[n, "psi"])} for n in due}
        if said:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({**known, **said}, indent=1), encoding="utf-8")
        return due

    def _known(self) -> dict[str, dict[str, object]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _is_due(
        self, report: DriftReport, said: Mapping[str, object] | None, name: str, at: datetime
    ) -> bool:
        if said is None:
            return True
        doubled = float(report.table.loc[name, "psi"]) >= 2 * float(str(said["psi"]))
        return doubled or at - datetime.fromisoformat(str(said["at"])) >= self._length
