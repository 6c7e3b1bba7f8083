"""Shared linear maps R^d -> R^k, one file each."""
