"""What an attribute means, in plain Python: which events count, and which value they give."""

from prospect_lib.aggregation.fold import attribute_values

__all__ = ["attribute_values"]
