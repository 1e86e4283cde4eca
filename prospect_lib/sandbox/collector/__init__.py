"""The collector: from a tracker's request to a row of atomic events."""
