"""What the quality of a model is called: an accuracy is a share, an R^2 may be anything below 1.

Both stand under the key ``accuracy`` in the metrics and ``test_accuracy`` in a summary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch loads slowly
    from fedsieve.learning.data import Task


@dataclass(frozen=True)
class Quality:
    """The measure of a task, in words.

    Args:
        name: On the line of a round and in a table of runs.
        full: On an axis and in a summary, where it has to be said what it was measured on.
        share: Whether it is one, and read in percent.
    """

    name: str
    full: str
    share: bool

    def told(self, value: float | None) -> str:
        """The value, or a dash.

        Example:
            >>> QUALITY["classification"].told(0.8312), QUALITY["regression"].told(-1.938)
            ('83.1%', '-1.94')
        """
        if value is None:
            return "-"
        return f"{value:.1%}" if self.share else f"{value:.3g}"


QUALITY: dict[Task, Quality] = {
    "classification": Quality("accuracy", "test accuracy", share=True),
    "regression": Quality("R^2", "test R^2", share=False),
}
"""The measure of each task."""
