"""The prospect model: training, splits, calibration and storage."""

from prospect_lib.model.dask import fit_on_cluster
from prospect_lib.model.prospect_model import ProspectModel, Score
from prospect_lib.model.search import search
from prospect_lib.model.splits import Split, forward_splits, honest_split, random_split
from prospect_lib.model.store import bundle_path, promote, promoted_path, promoted_version
from prospect_lib.model.training import Recipe

__all__ = [
    "ProspectModel",
    "Recipe",
    "Score",
    "Split",
    "bundle_path",
    "fit_on_cluster",
    "forward_splits",
    "honest_split",
    "promote",
    "promoted_path",
    "promoted_version",
    "random_split",
    "search",
]
