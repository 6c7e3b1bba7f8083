"""One round of private, robust, compressed federated learning, written out: numpy and torch only.

Read it from top to bottom. Eight clients, two of them malicious, learn to tell three kinds of 8 x 8
images apart. In every round each client sends K numbers instead of D, and they are differentially
private; the server keeps what most clients agree on. The library computes the same numbers
(tests/test_minimal.py) and adds what this page leaves out: the epsilon that SIGMA stands for, other
models, attacks and rules, the wire, checkpoints, reports.
"""

import numpy as np
import torch
from torch import Tensor

SEED, NOISE_SEED = 7, 11  # of noise and batches: in simulations only, or they protect nobody
CLIENTS, BYZANTINE, RECORDS = 8, 2, 60  # the last two clients are malicious
SIDE, CLASSES = 8, 3  # an image has SIDE x SIDE pixels
BATCH, CLIP, SIGMA = 20, 1.0, 0.7  # expected records in a batch; largest norm; noise / CLIP
MOMENTUM, LR = 0.9, 1.0
FREQUENCIES = 10  # of the 64 of an image
STRENGTH = 1.5  # of the attack, in standard deviations

D, K = CLASSES * SIDE**2 + CLASSES, CLASSES * FREQUENCIES + CLASSES
PUBLIC, NOISE, INCLUSION = 0, 2, 4


def stream(seed: int, name: int, *labels: int) -> np.random.Generator:
    """1. Randomness is keyed by what it is for; who asks first, or again, does not matter."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(name, *labels)))


def images(n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """2. The data: an image is its class's smooth pattern under noise."""
    wave, flat = np.cos(np.pi * np.arange(SIDE) / SIDE), np.ones(SIDE)
    patterns = np.stack([np.outer(wave, wave), np.outer(wave, flat), np.outer(flat, wave)])
    y = rng.integers(CLASSES, size=n)
    x = (patterns[y] + rng.normal(size=(n, SIDE, SIDE))).reshape(n, -1)
    return torch.from_numpy(x).float(), torch.from_numpy(y)


# 3. The shared, public projection R^D -> R^K keeps the lowest cosine frequencies of an image:
# neighbouring pixels are alike, so the gradient loses little. Q is (pixels, FREQUENCIES).
u, h = np.arange(SIDE)[:, None], np.arange(SIDE)
C = np.sqrt((2 - (u == 0)) / SIDE) * np.cos(np.pi * (2 * h + 1) * u / (2 * SIDE))
order = sorted(np.ndindex(SIDE, SIDE), key=lambda f: (f[0] ** 2 + f[1] ** 2, f[0]))
waves = [np.outer(C[u], C[v]).ravel() for u, v in order[:FREQUENCIES]]
Q = torch.from_numpy(np.stack(waves, axis=1)).float()


def scores(theta: Tensor, x: Tensor) -> Tensor:
    """4. The model: W x + b, with theta = (W, b) as one vector of D numbers."""
    return x @ theta[:-CLASSES].view(CLASSES, -1).T + theta[-CLASSES:]


def projected_gradients(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """5. The gradient of every record by itself, in R^K: (records, K).

    For W it is an outer product e x^T; projected it is e (Q^T x)^T, never built in R^D.
    """
    e = scores(theta, x).softmax(1) - torch.nn.functional.one_hot(y, CLASSES)
    return torch.cat([(e[:, :, None] * (x @ Q)[:, None]).flatten(1), e], dim=1)


def private_gradient(client: int, t: int, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """6. A client samples (each record by its own coin), clips, sums and adds noise.

    The sum is divided by the expected size of the batch: the real one is a secret.
    """
    joins = stream(NOISE_SEED, INCLUSION, client, t, 0).random(len(y)) < BATCH / len(y)
    g = projected_gradients(theta, x[joins], y[joins])
    g = g * (CLIP / g.norm(dim=1, keepdim=True)).clamp(max=1)
    noise = torch.from_numpy(stream(NOISE_SEED, NOISE, client, t, 0).standard_normal(K)).float()
    return (g.sum(0) + SIGMA * CLIP * noise) / BATCH


def caf(gram: np.ndarray, f: int) -> np.ndarray:
    """7. The robust rule: weights of the clients, from their messages' inner products alone.

    While more than n - 2f weight is left, take it from who stretches the widest direction.
    """
    n, c, least = len(gram), np.ones(len(gram)), np.inf
    while c.sum() > n - 2 * f:
        w = c / c.sum()
        centre, root = np.eye(n) - w, np.sqrt(w)  # row i of centre: x_i - sum_j w_j x_j
        gaps = centre @ gram @ centre.T
        variances, directions = np.linalg.eigh(root[:, None] * gaps * root)
        if variances[-1] < least:
            least, kept = variances[-1], w
        tau = (gaps @ (root * directions[:, -1])) ** 2
        c = c * np.maximum(1 - tau / tau[c > 0].max(), 0)
    return kept


def one_round(t: int, theta: Tensor, momentum: Tensor, data: list[tuple[Tensor, Tensor]]) -> Tensor:
    """8. Honest clients send momentum, the others a lie; the server weighs, lifts and steps."""
    for i in range(CLIENTS - BYZANTINE):
        g = private_gradient(i, t, theta, *data[i])
        momentum[i] = MOMENTUM * momentum[i] + (1 - MOMENTUM) * g
    lie = momentum.mean(0) - STRENGTH * momentum.std(0, correction=0)  # ALIE: a little is enough
    stack = torch.cat([momentum, lie.expand(BYZANTINE, -1)]).double()
    agreed = (torch.from_numpy(caf((stack @ stack.T).numpy(), BYZANTINE)) @ stack).float()
    W, b = agreed[:-CLASSES].view(CLASSES, -1) @ Q.T, agreed[-CLASSES:]  # the lift R^K -> R^D
    return theta - LR * torch.cat([W.flatten(), b])


def train(rounds: int) -> Tensor:
    """9. Round after round, from theta = 0."""
    theta, momentum = torch.zeros(D), torch.zeros(CLIENTS - BYZANTINE, K)
    data = [images(RECORDS, stream(SEED, PUBLIC, i)) for i in range(CLIENTS)]
    for t in range(rounds):
        theta = one_round(t, theta, momentum, data)
    return theta


if __name__ == "__main__":
    x, y = images(1000, stream(SEED, PUBLIC, CLIENTS))
    right = (scores(train(rounds=30), x).argmax(1) == y).float().mean()
    print(f"{K} of {D} numbers sent, accuracy after 30 rounds: {100 * right:.1f} %")
