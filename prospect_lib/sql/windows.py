"""Sums, extremes, and lifetimes that start afresh: frames over one visitor's time line.

Every instant of a visitor, anchors among them, is one row of ``moments``; window frames
carry values from there to the anchors. Sums are folded anew in each frame, because the
difference of two running sums of fractions would not be exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from snowplow_signals.models.model import Attribute

from prospect_lib.sql.context import Scope
from prospect_lib.sql.steps import BIRTH, KNOWN, LIFE, LIVES, MOMENTS, PREVIOUS

_COMMA = ",\n"
#: how the values of one instant combine, and then how those of a window do; of the value
#: column x, moments hold n (how many), total, low and high
_AT_ONE_INSTANT = {
    "n": "CAST(COUNT({x}) AS INTEGER)",
    "total": "SUM({x})",
    "low": "MIN({x})",
    "high": "MAX({x})",
}
OVER_A_WINDOW = {
    "counter": "CAST(NULLIF(SUM({n}) OVER {w}, 0) AS BIGINT)",
    "sum": "SUM({total}) OVER {w}",
    "mean": "SUM({total}) OVER {w} / NULLIF(SUM({n}) OVER {w}, 0)",
    "min": "MIN({low}) OVER {w}",
    "max": "MAX({high}) OVER {w}",
    "first": "FIRST_VALUE({low} IGNORE NULLS) OVER {w}",
    "time_since_first": "MIN(CASE WHEN {n} > 0 THEN ts END) OVER {w}",
}


@dataclass(frozen=True)
class Windows:
    """The steps that the given attributes need; tallies read their ``moments`` as well."""

    scope: Scope
    attributes: Sequence[Attribute]

    def steps(self) -> list[str]:
        if not self.attributes:
            return []
        return [self._moments(), *self._lives(), *self._known()]

    def join(self, alias: str) -> str:
        on = f"ON v.visitor = {alias}.visitor AND v.ts = {alias}.ts"
        return f"LEFT JOIN known AS v\n  {on}" if self._direct else ""

    def value(self, attribute: Attribute) -> str:
        return f"v.{self.scope.name(attribute)}"

    @property
    def source(self) -> str:
        """The step that frames look back over."""
        return "lives" if self.mortal else "moments"

    @cached_property
    def mortal(self) -> list[Attribute]:
        """Lifetime attributes: they count afresh after they ran out."""
        return [a for a in self.attributes if self.scope.ttl(a)]

    @cached_property
    def _direct(self) -> list[Attribute]:
        return [a for a in self.attributes if a.aggregation in OVER_A_WINDOW]

    def frame(self, attribute: Attribute) -> str:
        """The window an attribute looks back over."""
        if attribute.period is not None:
            back = self.scope.sql.interval(self.scope.reach(attribute.period))
            frame = f"RANGE BETWEEN {back} PRECEDING AND CURRENT ROW"
            return f"(PARTITION BY visitor ORDER BY ts {frame})"
        life = f", {self.scope.name(attribute, 'life')}" if attribute in self.mortal else ""
        frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
        return f"(PARTITION BY visitor{life} ORDER BY ts {frame})"

    def _folds(self) -> list[tuple[str, str]]:
        """(x, fold) for each column of ``moments``, such as ``("x1", "n")``."""
        wanted = []
        for attribute in self.attributes:
            window = OVER_A_WINDOW.get(attribute.aggregation, "{n}")
            folds = [fold for fold in _AT_ONE_INSTANT if f"{{{fold}}}" in window]
            folds += ["n"] if self.scope.ttl(attribute) else []
            wanted += [(self.scope.x(attribute), fold) for fold in folds]
        return list(dict.fromkeys(wanted))

    def _moments(self) -> str:
        xs = list(dict.fromkeys(self.scope.x(attribute) for attribute in self.attributes))
        return MOMENTS.format(
            columns="".join(
                f",\n    {_AT_ONE_INSTANT[fold].format(x=x)} AS {x}_{fold}"
                for x, fold in self._folds()
            ),
            xs="".join(f", {x}" for x in xs),
            nulls=", NULL" * len(xs),
            materialized=self.scope.sql.materialized,
        )

    def _lives(self) -> list[str]:
        """A lifetime attribute starts afresh when more than its ttl passed without an event."""
        names = [
            {
                "x": self.scope.x(a),
                "ttl": self.scope.sql.interval(self.scope.ttl(a) or timedelta()),
                **{what: self.scope.name(a, what) for what in ("before", "birth", "life")},
            }
            for a in self.mortal
        ]
        parts = {"previous": PREVIOUS, "births": BIRTH, "lives": LIFE}
        columns = {k: _COMMA.join(part.format(**n) for n in names) for k, part in parts.items()}
        return [LIVES.format(**columns)] if names else []

    def _known(self) -> list[str]:
        columns = "".join(
            f",\n    {self._windowed(a)} AS {self.scope.name(a)}" for a in self._direct
        )
        return [KNOWN.format(columns=columns, source=self.source)] if columns else []

    def _windowed(self, attribute: Attribute) -> str:
        w, x = self.frame(attribute), self.scope.x(attribute)
        columns = {fold: f"{x}_{fold}" for fold in _AT_ONE_INSTANT}
        value = OVER_A_WINDOW[attribute.aggregation].format(w=w, **columns)
        ttl = self.scope.ttl(attribute)
        if ttl is None:
            return value
        updated = f"MAX(CASE WHEN {x}_n > 0 THEN ts END) OVER {w}"
        alive = f"{updated} >= ts - {self.scope.sql.interval(self.scope.reach(ttl))}"
        return f"CASE WHEN {alive} THEN {value} END"
