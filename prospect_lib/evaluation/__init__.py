"""Honest figures: metrics, baselines, thresholds, champion against challenger."""
