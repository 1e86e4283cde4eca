"""Simulated visitors: a history of events with the best observable scores, and live traffic."""
