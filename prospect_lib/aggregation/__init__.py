"""What an attribute means, in plain Python: which events count, and which value they give.

Example: ``attribute_values(group, events, datetime.now(UTC))`` -> ``{"num_page_views_l7d": 2, …}``.
"""

from prospect_lib.aggregation.fold import attribute_values

__all__ = ["attribute_values"]
