"""The model: its data, training, calibration and storage."""

from prospect_lib.model.prospect_model import ProspectModel, Score
from prospect_lib.model.store import promoted_path, promoted_version

__all__ = ["ProspectModel", "Score", "promoted_path", "promoted_version"]
