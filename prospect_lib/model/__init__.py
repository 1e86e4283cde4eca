"""The model: its data, training, calibration and storage."""

from prospect_lib.model.prospect_model import ProspectModel, Score

__all__ = ["ProspectModel", "Score"]
