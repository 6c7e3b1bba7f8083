"""Ways of dividing a data set among clients, one file each."""

from fedsieve.learning.partitions._partition import class_histogram as class_histogram
from fedsieve.learning.partitions._partition import partition as partition
from fedsieve.learning.partitions._stratified import stratified as stratified

__all__ = ["class_histogram", "partition", "stratified"]
