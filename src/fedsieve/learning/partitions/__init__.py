"""Ways of dividing a data set among clients, one file each."""

from fedsieve.learning.partitions._partition import class_histogram as class_histogram
from fedsieve.learning.partitions._partition import partition as partition

__all__ = ["class_histogram", "partition"]
