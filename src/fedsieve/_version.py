"""The version, read by the build and by ``fedsieve version``."""

__version__ = "0.1.0"
