"""Data sets by name, one file each; and your own data as one."""

from fedsieve.learning.datasets._catalogue import fetch as fetch
from fedsieve.learning.datasets._catalogue import load as load
from fedsieve.learning.datasets._catalogue import sources as sources
from fedsieve.learning.datasets._catalogue import verify as verify
from fedsieve.learning.datasets._files import DataError as DataError
from fedsieve.learning.datasets._places import Source as Source
from fedsieve.learning.datasets.own import folder as folder
from fedsieve.learning.datasets.own import from_arrays as from_arrays

__all__ = [
    "DataError",
    "Source",
    "fetch",
    "folder",
    "from_arrays",
    "load",
    "sources",
    "verify",
]
