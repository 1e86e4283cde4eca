"""Simulated visitors: their history, and live traffic."""
