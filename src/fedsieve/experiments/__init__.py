"""Configuration, run directories, reports."""
