"""Robust aggregation rules and pre-aggregators."""
