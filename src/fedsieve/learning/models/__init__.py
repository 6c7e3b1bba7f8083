"""Models by name, one file each; any other ``nn.Module`` can be passed as an object."""

from fedsieve.learning.models._initialise import initialise as initialise

__all__ = ["initialise"]
