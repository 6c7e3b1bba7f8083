"""Codes from one vector to bytes and back, one file each."""
