"""Which way a model's per-sample gradients are computed: closed forms, vmap, or a loop.

Two samples are run through ordinary autograd, one by one, and the first way that gives the same
gradients is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor

from fedsieve.learning._autograd import AutogradRows, evaluating
from fedsieve.learning._closed_forms import ClosedForms
from fedsieve.learning._plan import Plan
from fedsieve.learning._separation import Separation, agree, needs_company
from fedsieve.learning._work import Forward
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.layers import NoClosedFormError

Loss = Callable[[Tensor, Tensor], Tensor]
Method = Literal["auto", "closed-form", "functional"]
Way = ClosedForms | AutogradRows


class Choice:
    """The choice for one model and loss.

    Args:
        model: The model.
        loss: Gives the samples' losses from outputs and targets.
        method: "auto", or the only way that may be taken.
        memory: Bytes that the activations of one pass of the closed forms may take.
        notify: Tells the user why a slower way is taken.
    """

    def __init__(
        self,
        model: FlatModel,
        loss: Loss,
        method: Method,
        memory: int,
        notify: Callable[[str], None],
    ) -> None:
        self.model = model
        self.method = method
        self.memory = memory
        self.notify = notify
        self.exact = Forward(loss, torch.float32)  # ways are compared without rounding
        self.everything = Plan(None, model.layout)

    def way(self, theta: Tensor, x: Tensor, y: Tensor) -> Way | None:
        """The way, by the first two samples with finite gradients; ``None`` without two.

        In float32 a unit at the kink of its ReLU may switch between two runs, which moves whole
        gradients. So the question is put in float64 first; who cannot answer there is asked again.

        Raises:
            ValueError: The model mixes samples.
            NoClosedFormError: It has no closed form, and ``method`` allows nothing else.
        """
        try:
            wide = x.double() if x.is_floating_point() else x
            return self._way(theta.double(), wide, y)
        except Exception:  # noqa: BLE001 - a user's module may insist on float32
            return self._way(theta, x, y)
        finally:
            self.model.bind(theta)

    def try_batch(self, theta: Tensor, x: Tensor, y: Tensor) -> bool:
        """Try a real batch (B, ...) once; ``False`` if too few gradients are finite.

        Raises:
            ValueError: The model mixes its samples.
        """
        if Separation(self.model, self.exact, theta).known:
            return True
        usable = x.flatten(1).isfinite().all(1) if x.ndim > 1 else x.isfinite()
        x, y = x[usable], y[usable]
        if len(x) < 2:
            return False
        try:
            wide = x.double() if x.is_floating_point() else x
            return Separation(self.model, self.exact, theta.double()).require_of_batch(wide, y)
        except Exception:  # noqa: BLE001 - a user's module may insist on float32
            return Separation(self.model, self.exact, theta).require_of_batch(x, y)
        finally:
            self.model.bind(theta)

    def _way(self, theta: Tensor, x: Tensor, y: Tensor) -> Way | None:
        trial = Separation(self.model, self.exact, theta)
        with trial.unchanged():
            try:
                chosen, rows = self._finite_pair(theta, x, y)
            except Exception as error:
                if len(x) > 1 and trial.takes_only_batches(x[:2], y[:2]):
                    raise needs_company(self.model.module, error) from error
                raise
            if len(chosen) < 2:
                return None
            order = chosen + [i for i in range(min(len(x), 8)) if i not in chosen]
            draws = not trial.known and trial.require(x[order], y[order])
            x, y = x[chosen], y[chosen]
            if not draws:
                return self._chosen(theta, x, y, torch.cat(rows))
            with evaluating(self.model.module):  # the ways are compared without noise
                _, rows = self._finite_pair(theta, x, y)
                return self._chosen(theta, x, y, torch.cat(rows)) if len(rows) == 2 else None

    def _finite_pair(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[list[int], list[Tensor]]:
        """Places and gradients (1, d) of the first two samples whose gradients are finite."""
        loop = AutogradRows(self.model, self.exact, looped=True)
        usable = x.flatten(1).isfinite().all(1) if x.ndim > 1 else x.isfinite()
        chosen: list[int] = []
        found: list[Tensor] = []
        for i in usable.nonzero().squeeze(1).tolist():
            for _, _, rows, _ in loop.rows(theta, x[i : i + 1], y[i : i + 1], self.everything):
                if rows.isfinite().all():
                    chosen.append(i)
                    found.append(rows)
            if len(chosen) == 2:
                break
        return chosen, found

    def _chosen(self, theta: Tensor, x: Tensor, y: Tensor, reference: Tensor) -> Way:
        """The first of closed forms, vmap and loop that reproduces the reference."""
        reason = ""
        if self.method != "functional":
            try:
                closed = ClosedForms(self.model, self.exact, self.memory)
                reason = self._objection(closed, theta, x, y, reference)
            except NoClosedFormError as error:
                reason = str(error)
            if not reason:
                if generic := closed.taps.without_form:
                    self.notify(f"no closed form for {', '.join(generic)}; torch.func instead")
                return closed
            if self.method == "closed-form":
                raise NoClosedFormError(reason)
        vmapped = AutogradRows(self.model, self.exact)
        if objection := self._objection(vmapped, theta, x, y, reference):
            self.notify(f"{reason or objection}; one backward pass per sample instead (slow)")
            return AutogradRows(self.model, self.exact, looped=True)
        if reason:
            self.notify(f"{reason}; torch.func instead, which is slower")
        return vmapped

    def _objection(
        self,
        way: Way,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        reference: Tensor,
    ) -> str:
        """Why this way cannot be taken; empty if it can."""
        try:
            with way if isinstance(way, ClosedForms) else nullcontext():
                rows = torch.cat([rows for _, _, rows, _ in way.rows(theta, x, y, self.everything)])
        except NoClosedFormError as reason:
            return str(reason)
        except Exception as error:  # noqa: BLE001 - a user's module may raise anything
            return f"{type(way).__name__} raised {type(error).__name__}"
        same = agree(self.model, rows, reference)
        return "" if same else f"{type(way).__name__} is off autograd"
