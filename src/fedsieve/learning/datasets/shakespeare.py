"""Tiny Shakespeare: the plays as one text (Karpathy, char-rnn, 2015); speakers are the clients.

Task: predict the next character from the 32 before it, per speaker as in LEAF (Caldas et al.,
"LEAF: A Benchmark for Federated Settings", arXiv:1812.01097).

Parsing rule: empty lines separate blocks; a block whose first line ends with a colon is a speech
of the person that the line names; a person's speeches are joined with a line feed. That gives 309
speakers; the 141 with at least 1,000 characters are kept. The last tenth of each one's text is for
testing; no window reaches across that cut or across speakers.

A record is one window. Windows begin every `STRIDE` characters, so a character lies in
`CONTEXT` / `STRIDE` of them: a guarantee at record level protects a window, not a sentence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets._files import DataFile, FileSet
from fedsieve.learning.datasets._places import published, require, sentence
from fedsieve.registry import register

_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

FILES = published(
    FileSet(
        "shakespeare",
        (DataFile("input.txt", 1_115_394, f"sha256:{_SHA256}", "input.txt", _SHA256),),
        folders=("shakespeare", "tiny-shakespeare"),
        mirrors=(
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
        ),
    )
)

ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""The 65 characters that occur; a token is a position in this string."""

CONTEXT = 32
STRIDE = 8
MINIMUM = 1_000
TEST_SHARE = 10  # one tenth


@register("dataset", "shakespeare", paper="Karpathy 2015; Caldas et al. 2018")
def shakespeare(data_dir: Path | None = None, download: bool = False) -> Dataset:
    """Next character of 141 speakers of Shakespeare's plays, who are the natural clients.

    Args:
        data_dir: Directory with input.txt, plain, .gz or .xz.
        download: Fetch the file where it is not on this machine.

    Returns:
        ``x`` is int64 (N, 32), ``y`` the next character, ``owners`` the speaker 0..140 in order of
        first appearance.

    Raises:
        DataError: The file is nowhere, or refused.
    """
    located, contents = require(FILES, data_dir, download)
    texts = list(speakers(contents.data["input.txt"].decode("ascii"), MINIMUM).values())
    cuts = [len(text) - len(text) // TEST_SHARE for text in texts]
    x, y, owners = windows([text[:cut] for text, cut in zip(texts, cuts, strict=True)])
    x_test, y_test, _ = windows([text[cut:] for text, cut in zip(texts, cuts, strict=True)])
    return Dataset(
        FILES.name,
        torch.from_numpy(x),
        torch.from_numpy(y),
        torch.from_numpy(x_test),
        torch.from_numpy(y_test),
        classes=len(ALPHABET),
        owners=torch.from_numpy(owners),
        source=sentence(FILES.name, len(y), len(y_test), located.origin, contents.sha256),
        checksums=contents.sha256,
        licence="public domain",
    )


def speakers(text: str, minimum: int = 0) -> dict[str, str]:
    r"""Name -> all that the person says, for those who say at least ``minimum`` characters.

    Example:
        >>> speakers("A:\nTo be\n\nB:\nNo.\n\nA:\nor not")
        {'A': 'To be\nor not', 'B': 'No.'}
    """
    said: dict[str, list[str]] = {}
    for block in text.split("\n\n"):
        name, _, speech = block.strip("\n").partition("\n")
        if name.endswith(":"):
            said.setdefault(name[:-1], []).append(speech)
    joined = {name: "\n".join(speeches) for name, speeches in said.items()}
    return {name: speech for name, speech in joined.items() if len(speech) >= minimum}


def windows(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contexts int64 (N, 32), next characters int64 (N,), and the position of each one's text."""
    codes = np.full(128, -1, dtype=np.int64)
    codes[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))
    x, y, owners = [], [], []
    for owner, text in enumerate(texts):
        tokens = codes[np.frombuffer(text.encode("ascii"), np.uint8)]
        if len(tokens) <= CONTEXT:
            continue
        cut = np.lib.stride_tricks.sliding_window_view(tokens, CONTEXT + 1)[::STRIDE]
        x.append(cut[:, :CONTEXT])
        y.append(cut[:, CONTEXT])
        owners.append(np.full(len(cut), owner))
    return np.concatenate(x), np.concatenate(y), np.concatenate(owners)
