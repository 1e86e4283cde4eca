"""Real-time prospect scoring with Snowplow Signals, Snowflake, XGBoost and Flask.

The names below are the public face: ``from prospect_lib import Settings, extract``. Each is
loaded when it is first used (PEP 562), so importing the package imports nothing else and works
before its dependencies are installed, as Google Colab needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

#: where each public name lives
_FACE = {
    "version": ["__version__"],
    "settings": ["Settings"],
    "attributes": ["prospect_group", "prospect_service", "tutorial_group"],
    "problem": [
        "ScoringProblem",
        "chosen_problem",
        "load_problem",
        "prospect_problem",
        "sample_problem",
        "tutorial_problem",
    ],
    "features": ["FEATURES", "from_attributes"],
    "aggregation": ["attribute_values"],
    "warehouse": [
        "DatabricksWarehouse",
        "DuckDBWarehouse",
        "SnowflakeWarehouse",
        "SparkWarehouse",
        "open_warehouse",
    ],
    "training_set": [
        "SITE_ANCHORS",
        "Anchors",
        "attributes_sql",
        "create_table",
        "extract",
        "features_sql",
        "read_once",
    ],
    "model": ["ProspectModel", "honest_split", "random_split"],
    "evaluation": ["choose_threshold", "evaluate", "evaluate_forward"],
    "server": ["Options", "Server", "create_app", "open_tunnel"],
}
_HOME = {name: room for room, names in _FACE.items() for name in names}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from prospect_lib.aggregation import attribute_values as attribute_values
    from prospect_lib.attributes import prospect_group as prospect_group
    from prospect_lib.attributes import prospect_service as prospect_service
    from prospect_lib.attributes import tutorial_group as tutorial_group
    from prospect_lib.evaluation import choose_threshold as choose_threshold
    from prospect_lib.evaluation import evaluate as evaluate
    from prospect_lib.evaluation import evaluate_forward as evaluate_forward
    from prospect_lib.features import FEATURES as FEATURES
    from prospect_lib.features import from_attributes as from_attributes
    from prospect_lib.model import ProspectModel as ProspectModel
    from prospect_lib.model import honest_split as honest_split
    from prospect_lib.model import random_split as random_split
    from prospect_lib.problem import ScoringProblem as ScoringProblem
    from prospect_lib.problem import chosen_problem as chosen_problem
    from prospect_lib.problem import load_problem as load_problem
    from prospect_lib.problem import prospect_problem as prospect_problem
    from prospect_lib.problem import sample_problem as sample_problem
    from prospect_lib.problem import tutorial_problem as tutorial_problem
    from prospect_lib.server import Options as Options
    from prospect_lib.server import Server as Server
    from prospect_lib.server import create_app as create_app
    from prospect_lib.server import open_tunnel as open_tunnel
    from prospect_lib.settings import Settings as Settings
    from prospect_lib.training_set import SITE_ANCHORS as SITE_ANCHORS
    from prospect_lib.training_set import Anchors as Anchors
    from prospect_lib.training_set import attributes_sql as attributes_sql
    from prospect_lib.training_set import create_table as create_table
    from prospect_lib.training_set import extract as extract
    from prospect_lib.training_set import features_sql as features_sql
    from prospect_lib.training_set import read_once as read_once
    from prospect_lib.version import __version__ as __version__
    from prospect_lib.warehouse import DatabricksWarehouse as DatabricksWarehouse
    from prospect_lib.warehouse import DuckDBWarehouse as DuckDBWarehouse
    from prospect_lib.warehouse import SnowflakeWarehouse as SnowflakeWarehouse
    from prospect_lib.warehouse import SparkWarehouse as SparkWarehouse
    from prospect_lib.warehouse import open_warehouse as open_warehouse


def __getattr__(name: str) -> Any:
    """Load a public name from its room."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
