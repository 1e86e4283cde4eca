"""Check a running service: served values, outcomes, visitor drift.

Example::

    served = read_served(settings.home / "served", prospect_group)
    print(audit(warehouse, served).summary())
"""

from prospect_lib.monitoring.audit import AuditReport, audit, changed_attributes
from prospect_lib.monitoring.backfill import BackfillReport, measure_backfill
from prospect_lib.monitoring.causes import CAUSES
from prospect_lib.monitoring.drift import DriftReport, measure_drift
from prospect_lib.monitoring.effect import Effect, sessions_needed
from prospect_lib.monitoring.outcomes import (
    OutcomeReport,
    calibration_verdict,
    measure_outcomes,
    served_anchors,
)
from prospect_lib.monitoring.served_scores import read_served, read_served_features

__all__ = [
    "CAUSES",
    "AuditReport",
    "BackfillReport",
    "DriftReport",
    "Effect",
    "OutcomeReport",
    "audit",
    "calibration_verdict",
    "changed_attributes",
    "measure_backfill",
    "measure_drift",
    "measure_outcomes",
    "read_served",
    "read_served_features",
    "served_anchors",
    "sessions_needed",
]
