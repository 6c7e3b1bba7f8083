"""JAX: one compiled function a round, ``lax.scan`` over clients and over their steps, plan exact.

Convolutions are products of patch matrices: the native ones take seconds inside a scan on a CPU.
The initial parameters are drawn from the same distribution as torch's, by another generator.
"""

from __future__ import annotations

import common_job as job
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Parameters = list[tuple[Array, Array]]
SHAPES = {
    "mlp": ((784, 256), (256, 10)),
    "cnn": ((25, 16), (25 * 16, 32), (512, 256), (256, 10)),
}


def initial(model: str) -> Parameters:
    """Weights and biases uniform in +-1/sqrt(inputs)."""
    rng = np.random.default_rng(0)

    def draw(inputs: int, *shape: int) -> Array:
        bound = inputs**-0.5
        return jnp.asarray(rng.uniform(-bound, bound, shape), jnp.float32)

    return [(draw(i, i, o), draw(i, o)) for i, o in SHAPES[model]]


def convolution(x: Array, weight: Array, bias: Array) -> Array:
    """5x5, no padding: (n, h, w, c) -> (n, h - 4, w - 4, outputs)."""
    h, w = x.shape[1] - 4, x.shape[2] - 4
    patches = [x[:, i : i + h, j : j + w] for i in range(5) for j in range(5)]
    return jnp.concatenate(patches, axis=-1) @ weight + bias


def pooled(x: Array) -> Array:
    """Largest of each 2x2 square."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def scores(parameters: Parameters, x: Array) -> Array:
    """Class scores (n, 10) of images (n, 784)."""
    *convolutions, (w1, b1), (w2, b2) = parameters
    if convolutions:
        x = x.reshape(-1, 28, 28, 1)
        for weight, bias in convolutions:
            x = pooled(jax.nn.relu(convolution(x, weight, bias)))
        x = x.reshape(len(x), -1)
    return jax.nn.relu(x @ w1 + b1) @ w2 + b2


def loss(parameters: Parameters, x: Array, y: Array) -> Array:
    """Mean cross-entropy."""
    logs = jax.nn.log_softmax(scores(parameters, x))
    return -jnp.take_along_axis(logs, y[:, None], 1).mean()


@jax.jit
def one_round(parameters: Parameters, x: Array, y: Array, orders: Array) -> Parameters:
    """The average of the cohort's models; orders (20, 5, 32) are positions in x and y."""

    def step(own: Parameters, batch: Array) -> tuple[Parameters, None]:
        gradient = jax.grad(loss)(own, x[batch], y[batch])
        return jax.tree.map(lambda p, g: p - job.LR * g, own, gradient), None

    def client(total: Parameters, batches: Array) -> tuple[Parameters, None]:
        own, _ = lax.scan(step, parameters, batches)
        return jax.tree.map(jnp.add, total, own), None

    total, _ = lax.scan(client, jax.tree.map(jnp.zeros_like, parameters), orders)
    return jax.tree.map(lambda p: p / job.COHORT, total)


def main() -> None:
    args = job.arguments()
    x, y, x_test, y_test = (jnp.asarray(part) for part in job.data())
    parameters = initial(args.model)
    laps = job.Laps(args.rounds)
    for round_ in range(args.rounds):
        laps.start()
        _, orders = job.plan(round_)
        parameters = jax.block_until_ready(one_round(parameters, x, y, orders))
        laps.stop()
    right = scores(parameters, x_test).argmax(1) == y_test
    job.report_laps(args, ["jax", "jaxlib"], laps, float(right.mean()))


if __name__ == "__main__":
    main()
