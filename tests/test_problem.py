"""A scoring problem: its parts fit together, and a file of the user's is loaded or refused."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from snowplow_signals import Attribute, Event, Service, StreamAttributeGroup, user_id

from prospect_lib.anchors import Anchors
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DefinitionError, SettingsError
from prospect_lib.problem import (
    ScoringProblem,
    chosen_problem,
    load_problem,
    problem_of,
    prospect_problem,
    sample_problem,
)
from prospect_lib.settings import Settings

ORDERS = Attribute(
    name="num_orders", type="int64", events=[Event(name="order")], aggregation="counter"
)
SHOP = StreamAttributeGroup(
    name="shop", attribute_key=user_id, owner="a@example.com", attributes=[ORDERS]
)
SERVICE = Service(name="shop_service", owner="a@example.com", attribute_groups=[SHOP])
FILE = """
from prospect_lib.problem import ScoringProblem, prospect_problem
from tests.test_problem import SERVICE, SHOP
"""


def shop(**parts: Any) -> ScoringProblem:
    return ScoringProblem(**{"name": "shop", "group": SHOP, "service": SERVICE, **parts})


def test_the_parts_of_a_problem_are_read_from_its_group_and_its_anchors() -> None:
    anchors = Anchors(goal=[Event(name="order")], horizon=timedelta(hours=2), app_ids=["web"])
    problem = shop(anchors=anchors, flags={"num_orders": "has_ordered"})
    assert (problem.key, problem.owner) == ("user_id", "a@example.com")
    assert (problem.goal, problem.horizon) == ((Event(name="order"),), timedelta(hours=2))
    assert problem.app_ids == ("web",)
    assert [(f.name, f.kind) for f in problem.features] == [
        ("has_ordered", "flag"), ("day_of_week", "number"),
    ]  # fmt: skip
    assert problem.label() == {"event": "order", "horizon_seconds": 7200}


def test_each_problem_has_folders_of_its_own_and_the_demo_has_the_plain_ones() -> None:
    home = Path("home")
    assert shop().folder(home, "models") == home / "models-shop"
    assert shop().folder(home, "served") == home / "served-shop"
    assert prospect_problem.folder(home, "models") == home / "models"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"name": "My Shop"}, "name='My Shop'.*lower-case letters"),
        ({"group": SERVICE}, "group .* is a Service, expected a AttributeGroup"),
        ({"anchors": timedelta(hours=1)}, "anchors .* is a timedelta, expected a Anchors"),
        ({"flags": {"num_order": "x"}}, "no attribute num_order. Write"),
        ({"never_lower": ["num_pricing_views"]}, "no feature num_pricing_views. Write"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(parts: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message) as refusal:
        shop(**parts)
    assert "\n" not in str(refusal.value)


def test_a_bare_group_is_a_problem_with_the_default_anchors() -> None:
    assert problem_of(SHOP).key == "user_id"
    assert problem_of(SHOP).anchors == Anchors()
    assert problem_of(prospect_group).features == prospect_problem.features
    assert problem_of(sample_problem) is sample_problem
    with pytest.raises(DefinitionError, match="a str is no scoring problem"):
        problem_of("shop")  # type: ignore[arg-type]


def test_a_file_with_one_problem_is_loaded_whatever_it_imports(tmp_path: Path) -> None:
    file = tmp_path / "my_site.py"
    file.write_text(FILE + "mine = ScoringProblem('shop', SHOP, SERVICE)\n")
    assert load_problem(str(file)).name == "shop"
    assert load_problem(f"{file}:mine").name == "shop"
    assert load_problem("prospect_lib.problem:sample_problem") is sample_problem
    settings = Settings(home=tmp_path, problem=str(file))
    assert chosen_problem(settings).name == "shop"
    assert chosen_problem(Settings(home=tmp_path)) is prospect_problem


@pytest.mark.parametrize(
    ("content", "where", "message"),
    [
        (None, "{file}", "no file .*my_site.py. Write one: python -m prospect_lib new"),
        ("", "{file}", "has 0 scoring problems .*expected one"),
        ("a = ScoringProblem('a', SHOP, SERVICE)\nb = a.with_anchors(a.anchors)\n", "{file}",
         r"has 2 scoring problems \(a, b\), expected one. Name it: .*my_site.py:name"),
        ("a = ScoringProblem('a', SHOP, SERVICE)\n", "{file}:c",
         "has no ScoringProblem named c; those it has: a"),
        ("import nothing_of_this_name\n", "{file}", "no module 'nothing_of_this_name'"),
        ("x = 1\ny = 1 / 0\n", "{file}", "line 5: division by zero"),
        ("from snowplow_signals import AtomicProperty\nAtomicProperty(name='page_urlpth')\n",
         "{file}", "line 5: AtomicProperty: name='page_urlpth' .* did you mean 'page_urlpath'?"),
        ("x = (\n", "{file}", "'\\(' was never closed"),
        ("a = ScoringProblem('A', SHOP, SERVICE)\n", "{file}", "line 4: name='A' of Scoring"),
        (None, "no_such_package.site", "no module 'no_such_package'"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, content: str | None, where: str, message: str
) -> None:
    file = tmp_path / "my_site.py"
    if content is not None:
        file.write_text(FILE + content)
    with pytest.raises(SettingsError, match=message) as refusal:
        load_problem(where.format(file=file))
    assert len(str(refusal.value)) < 400
    assert "\n" not in str(refusal.value) and str(refusal.value).startswith("--problem ")
