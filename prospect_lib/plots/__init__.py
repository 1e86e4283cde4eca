"""Pictures for notebooks and reports.

Each function returns a :class:`Picture`: as the last line of a notebook cell it shows itself.

Example: ``plots.reliability(evaluation)``
"""

from prospect_lib.plots.evaluation import (
    comparison,
    curves,
    differences,
    forward,
    lift,
    reliability,
    side_by_side,
    split_bands,
    threshold,
)
from prospect_lib.plots.explanations import (
    by_attribute,
    importance,
    length,
    running_total,
    timeline,
    waterfall,
)
from prospect_lib.plots.monitoring import drift, effect, live_calibration, mismatches
from prospect_lib.plots.style import Picture, picture

__all__ = [
    "Picture",
    "by_attribute",
    "comparison",
    "curves",
    "differences",
    "drift",
    "effect",
    "forward",
    "importance",
    "length",
    "lift",
    "live_calibration",
    "mismatches",
    "picture",
    "reliability",
    "running_total",
    "side_by_side",
    "split_bands",
    "threshold",
    "timeline",
    "waterfall",
]
