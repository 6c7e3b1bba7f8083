"""Codes of one vector to bytes and back, one file each; wire.py has the frame they share."""

from fedsieve.compression.codecs.codec import Codec as Codec
from fedsieve.compression.codecs.integers import Integers as Integers
from fedsieve.compression.codecs.raw16 import Raw16 as Raw16
from fedsieve.compression.codecs.raw32 import Raw32 as Raw32
from fedsieve.compression.codecs.top_k import TopK as TopK
from fedsieve.compression.codecs.wire import WireError as WireError

__all__ = ["Codec", "Integers", "Raw16", "Raw32", "TopK", "WireError"]
