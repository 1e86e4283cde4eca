"""One site's question as one value: whom to score, at which moments, on what, for which goal.

Everything that trains, serves or audits takes a :class:`ScoringProblem`; that of the demo website
is only the default. ``python -m prospect_lib new my_site.py`` writes a commented file with one,
and ``--problem my_site.py`` gives it to the other commands.

Example::

    problem = load_problem("my_site.py")
    rows = extract(open_warehouse(settings, "events.parquet"), problem)
    model = ProspectModel.fit(rows.table, problem=problem)
"""

import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError
from snowplow_signals import AttributeGroup, Event, Service, StreamAttributeGroup

from prospect_lib.aggregation.definitions import check_definitions
from prospect_lib.aggregation.keys import key_name
from prospect_lib.anchors import SITE_ANCHORS, Anchors, Horizon
from prospect_lib.attributes import (
    COUNTS_AS_FLAGS,
    NEVER_LOWER,
    OWNER,
    prospect_group,
    prospect_service,
    sample_group,
    tutorial_group,
    tutorial_service,
)
from prospect_lib.errors import DefinitionError, SettingsError, one_line, wrong_type
from prospect_lib.features import Feature, features_of
from prospect_lib.settings import Settings

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_DEMO = "prospect"  # whose folders have no suffix


@dataclass(frozen=True)
class ScoringProblem:
    """What one site scores.

    Attributes:
        name: lower-case letters, digits, ``_`` and ``-``; part of the names of folders.
        group: the attributes; its attribute key is whom the scores are about.
        service: the Signals service that serves the group.
        anchors: the moments of which visitors are training rows; their goal, horizon and app ids.
        flags: counts that become flags (none, or at least one): attribute -> name of the feature.
        never_lower: numeric features that never lower the score when they grow.
        decision: name of the decision that a score is for, and of the intervention.
        suppressed_by: counts that forbid to act when they are at least one, because the visitor
            has just done what they would be invited to.

    Raises:
        DefinitionError: a part has no meaning or does not fit another one; the message names it.

    Example:
        >>> prospect_problem.key, prospect_problem.goal[0].name, prospect_problem.horizon
        ('domain_userid', 'submit_form', datetime.timedelta(seconds=3600))
    """

    name: str
    group: StreamAttributeGroup
    service: Service
    anchors: Anchors = field(default_factory=Anchors)
    flags: Mapping[str, str] = field(default_factory=dict)
    never_lower: Collection[str] = ()
    decision: str = "invite"
    suppressed_by: Sequence[str] = ()

    def __repr__(self) -> str:
        """Return the name, the key and the number of attributes, as help() shows defaults."""
        return (
            f"<ScoringProblem {self.name}: {len(self.group.attributes)} attributes of a {self.key}>"
        )

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together."""
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise DefinitionError(
                f"name={self.name!r} of ScoringProblem: expected lower-case letters, digits, _ "
                "and -, such as my_shop."
            )
        for part, kind in (("group", AttributeGroup), ("service", Service), ("anchors", Anchors)):
            if not isinstance(getattr(self, part), kind):
                raise DefinitionError(
                    f"{part} of ScoringProblem {self.name!r} is a "
                    f"{type(getattr(self, part)).__name__}, expected a {kind.__name__}."
                )
        known = {attribute.name for attribute in self.group.attributes or []}
        for part in ("flags", "suppressed_by"):
            if unknown := sorted(set(getattr(self, part)) - known):
                raise DefinitionError(
                    f"{part} of ScoringProblem {self.name!r}: the group has no attribute "
                    f"{', '.join(unknown)}. Write a name of the group's attributes."
                )
        if unknown := sorted(set(self.never_lower) - {feature.name for feature in self.features}):
            raise DefinitionError(
                f"never_lower of ScoringProblem {self.name!r}: there is no feature "
                f"{', '.join(unknown)}. Write a name of the problem's features."
            )
        check_definitions(self.group, self.flags)
        self.anchors.check(self.group)

    @property
    def key(self) -> str:
        """The name of the attribute key: a training set's first column, and /predict's key."""
        return key_name(self.group)

    @property
    def goal(self) -> Sequence[Event]:
        """The events that make a row positive."""
        return self.anchors.goal

    @property
    def horizon(self) -> Horizon:
        """How far ahead a score looks; ``"session"`` for the rest of the session."""
        return self.anchors.horizon

    @property
    def app_ids(self) -> Sequence[str]:
        """The apps whose visitors are rows; empty for all."""
        return self.anchors.app_ids

    @property
    def owner(self) -> str:
        """The owner of the group in Signals, an e-mail address."""
        return str(self.group.owner)

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The model's features, in order."""
        return features_of(self.group, self.flags)

    def label(self) -> dict[str, Any]:
        """Return the meaning of the label as plain JSON values, for a model's manifest."""
        names = [event.name or event.vendor or "any event" for event in self.goal]
        return {
            "event": " or ".join(names),
            "horizon_seconds": None
            if isinstance(self.horizon, str)
            else int(self.horizon.total_seconds()),
        }

    def folder(self, home: Path, kind: str) -> Path:
        """Return the problem's folder of ``models`` or of ``served`` scores in PROSPECT_HOME.

        >>> prospect_problem.folder(Path("home"), "models").name
        'models'
        >>> sample_problem.folder(Path("home"), "models").name
        'models-sample'
        """
        return home / (kind if self.name == _DEMO else f"{kind}-{self.name}")

    def with_anchors(self, anchors: Anchors) -> "ScoringProblem":
        """Return the same problem with other training rows."""
        return replace(self, anchors=anchors)


#: The demo website: will this visitor submit a form within the hour?
prospect_problem = ScoringProblem(
    name=_DEMO,
    group=prospect_group,
    service=prospect_service,
    anchors=SITE_ANCHORS,
    flags=COUNTS_AS_FLAGS,
    never_lower=NEVER_LOWER,
    suppressed_by=("num_conversions_l30d",),
)

#: The same question on the nineteen attributes of Snowplow's tutorial.
tutorial_problem = replace(
    prospect_problem, name="tutorial", group=tutorial_group, service=tutorial_service
)

#: Snowplow's published sample of events, which supports three attributes.
sample_problem = ScoringProblem(
    name="sample",
    group=sample_group,
    service=Service(
        name="prospect_lib_sample_service", owner=OWNER, attribute_groups=[sample_group]
    ),
    never_lower=("num_pricing_views",),
)


def problem_of(what: ScoringProblem | AttributeGroup) -> ScoringProblem:
    """Return a problem, or that of a bare group: the goal and the anchors are then the defaults.

    Raises:
        DefinitionError: it is neither.
    """
    if isinstance(what, ScoringProblem):
        return what
    if not isinstance(what, AttributeGroup):
        raise DefinitionError(
            f"a {type(what).__name__} is no scoring problem; expected a ScoringProblem, or an "
            "attribute group such as prospect_group."
        )
    group = (
        StreamAttributeGroup.model_construct(**what.__dict__)
        if not isinstance(what, StreamAttributeGroup)
        else what
    )
    for known in (prospect_problem, tutorial_problem, sample_problem):
        if known.group is group:
            return known.with_anchors(Anchors())
    service = Service(name=f"{group.name}_service", owner=group.owner, attribute_groups=[group])
    return ScoringProblem(group.name.lower(), group, service)


def chosen_problem(settings: Settings) -> ScoringProblem:
    """Return the scoring problem that ``PROSPECT_PROBLEM`` names, else the demo website's.

    Raises:
        SettingsError: as :func:`load_problem`.
    """
    return load_problem(settings.problem) if settings.problem else prospect_problem


def load_problem(where: str | Path) -> ScoringProblem:
    """Load a scoring problem from a Python file or a module.

    Args:
        where: ``my_site.py`` (with one problem in it), ``my_site.py:shop`` or ``package.mod:shop``.
    Raises:
        SettingsError: there is no such file, module or problem, or the file fails; the message
            names the file and the line.

    Example: ``load_problem("my_site.py").key`` -> ``"user_id"``
    """
    if not isinstance(where, str | Path):
        raise wrong_type("the place of a scoring problem", where, "a file such as my_site.py")
    where = str(where)
    place, _, attribute = where.partition(":")
    module = _module(place, where)
    if attribute:
        chosen = getattr(module, attribute, None)
        if not isinstance(chosen, ScoringProblem):
            has = ", ".join(_problems(module)) or "none"
            raise SettingsError(
                f"--problem {where}: {place} has no ScoringProblem named {attribute}; those it "
                f"has: {has}."
            )
        return chosen
    problems = _problems(module)
    if len(problems) != 1:
        raise SettingsError(
            f"--problem {where}: {place} has {len(problems)} scoring problems "
            f"({', '.join(problems) or 'write problem = ScoringProblem(...)'}), expected one. "
            f"Name it: {place}:name."
        )
    return next(iter(problems.values()))


def _problems(module: ModuleType) -> dict[str, ScoringProblem]:
    """Return the problems that a module defines, without those that it imports from here."""
    ours = (id(prospect_problem), id(tutorial_problem), id(sample_problem))
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, ScoringProblem) and id(value) not in ours
    }


def _module(place: str, where: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place)
        if not path.is_file():
            raise SettingsError(
                f"--problem {where}: there is no file {place}. Write one: python -m prospect_lib "
                f"new {place}."
            )
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None  # a .py file always has both
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)  # so that its classes can be pickled
        spec.loader.exec_module(module)
        return module
    except SettingsError:
        raise
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--problem {where}: no module {error.name!r}. Give a file, such as my_site.py, or a "
            "module that Python finds from here."
        ) from None
    except Exception as error:
        reason = f"{_line_of(error, place)}{_in_one_line(error)}"
        raise SettingsError(f"--problem {where}: {reason}") from error


def _in_one_line(error: Exception) -> str:
    """Return an error's message as one line; of a wrong value of the SDK, with a suggestion."""
    if not isinstance(error, ValidationError):
        return one_line(error)
    first = error.errors(include_url=False)[0]
    field, value = ".".join(map(str, first["loc"])), first["input"]
    choices = re.findall(r"'(\w+)'", str(first.get("ctx", {}).get("expected", "")))
    if close := difflib.get_close_matches(str(value), choices, n=1):
        return f"{error.title}: {field}={value!r} is not known; did you mean {close[0]!r}?"
    return one_line(f"{error.title}: {field}={value!r}: {first['msg']}")


def _line_of(error: Exception, place: str) -> str:
    """Return the last line of the file in the error's traceback, as ``line 12: ``."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == place]
    return f"line {lines[-1]}: " if lines else ""
