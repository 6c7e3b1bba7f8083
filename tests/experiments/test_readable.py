"""The figures of a run as a reader wants them."""

from fedsieve.experiments import readable


def test_sizes() -> None:
    assert readable.size(8) == "1 B"
    assert readable.size(153_920) == "19.2 kB"
    assert readable.size(8e6) == "1 MB"
    assert readable.size(2.5e9, per=1) == "2.5 GB"
    assert readable.size(None) == "-"
