"""What algorithms with one model at a server have in common."""

from __future__ import annotations

from torch import Tensor

from fedsieve.algorithms.form import Aggregate, Algorithm, Broadcast, Cohort, Releases, Tensors
from fedsieve.algorithms.momentum import noise_in
from fedsieve.algorithms.parts import Parts


class Central(Algorithm):
    """An algorithm whose shared state is theta_t (d,), moved by one lifted k-vector a round."""

    parts: Parts
    server_lr: float = 1.0

    @property
    def width(self) -> int:
        """Numbers in one message."""
        return self.halves * self.parts.k

    def shared(self, theta: Tensor) -> Tensors:
        """theta_0, what the projection's planner keeps, and the clip where it moves."""
        clip = self.parts.gradient.start(theta)
        return {"theta": theta.clone(), **self.parts.planner.start(theta), **clip}

    def broadcast(self, shared: Tensors, round_: int) -> Broadcast:
        """theta_t, and control variates or a moving clip where there are such."""
        names = [name for name in ("theta", "variate", "clip") if name in shared]
        return self.parts.broadcast(shared, round_, names)

    def aggregated(self, broadcast: Broadcast, stack: Tensor, aggregate: Aggregate) -> Tensor:
        """What the server publishes of a stack (m, k): F of it, with its noise if it adds any."""
        gradient = self.parts.gradient
        return gradient.noise.at_server(gradient.mechanism, stack, broadcast.round, aggregate)

    def move(
        self,
        shared: Tensors,
        broadcast: Broadcast,
        direction: Tensor,
        step: float,
        momentum: float = 0.0,
    ) -> Tensors:
        """theta_{t+1} = theta_t + step lift(direction), direction (k,).

        Where the server keeps the momentum, in R^d: m <- beta m + (1 - beta) lift(direction), and
        the step goes along m.
        """
        lifted = broadcast.subspace.lift(direction)
        moved = {**shared, **self.parts.planner.learn(shared, broadcast.round, lifted)}
        if "momentum" in shared:
            lifted = momentum * shared["momentum"] + (1 - momentum) * lifted
            moved["momentum"] = lifted
        moved["theta"] = shared["theta"].add(lifted, alpha=step)
        return moved

    def skip(self, shared: Tensors, broadcast: Broadcast) -> Tensors:
        """The next plan falls due all the same, or momentum would be carried from another map."""
        return shared | self.parts.planner.learn(shared, broadcast.round, None)

    def adapt(self, shared: Tensors, shares: Tensor) -> Tensors:
        """C_{t+1}, by the median of the shares: a minority that lies cannot move it far."""
        return shared | self.parts.gradient.adapted(shared, shares)

    def combined(self, stack: Tensor, senders: tuple[int, ...], aggregate: Aggregate) -> Tensor:
        """F of the whole stack, as far as the server admits it."""
        gradient = self.parts.gradient
        return aggregate(gradient.noise.admitted(gradient.mechanism, stack))

    def parameters(self, shared: Tensors) -> Tensor:
        """theta_t."""
        return shared["theta"]

    def told(self, before: Tensor, after: Tensor) -> Tensor:
        """(theta_{t+1} - theta_t) / eta_g."""
        return (after - before) / self.server_lr

    def releases(self, cohort: Cohort) -> Releases:
        """One noisy gradient a round, or one per local step."""
        return self.parts.gradient.releases(cohort, local=self.one_by_one)


class Descent(Central):
    """A central algorithm whose messages estimate gradients: the server steps against F of them."""

    lr: float
    momentum: float = 0.0

    def noise_std(
        self, broadcast: Broadcast, memory: Tensors, cohort: Cohort
    ) -> tuple[float | None, ...]:
        """That of one gradient, or of the client's momentum of such."""
        std = self.parts.gradient.noise_std(broadcast, cohort)
        return (noise_in(memory, cohort.rows, std),)

    def told(self, before: Tensor, after: Tensor) -> Tensor:
        """(theta_t - theta_{t+1}) / gamma."""
        return (before - after) / self.lr

    def exchange(
        self,
        shared: Tensors,
        broadcast: Broadcast,
        stack: Tensor,
        senders: tuple[int, ...],
        aggregate: Aggregate,
    ) -> Tensors:
        """theta_{t+1} = theta_t - gamma lift(F(stack)), stack (n, k)."""
        direction = self.aggregated(broadcast, stack, aggregate)
        return self.move(shared, broadcast, direction, -self.lr, self.momentum)
