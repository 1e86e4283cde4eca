"""Served scores compared with the warehouse, with outcomes and with training data."""
