"""The collector: turns requests of trackers into rows of atomic events."""
