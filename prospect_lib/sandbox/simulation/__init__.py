"""Simulated visitors: a history of events with true probabilities, and live traffic."""
