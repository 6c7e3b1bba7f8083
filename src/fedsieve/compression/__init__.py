"""Shared linear maps to few numbers, and codes from vectors to bytes."""
