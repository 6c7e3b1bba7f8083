"""Files are read once, bounded, and refused with their name and both checksums."""

import gzip
import hashlib
import http.server
import io
import lzma
import re
import tarfile
import threading
from dataclasses import replace

import numpy as np
import pytest

from fedsieve import registry
from fedsieve.learning.datasets import DataError, _catalogue, _places
from fedsieve.learning.datasets._files import Archive, DataFile, FileSet, read_file
from fedsieve.learning.datasets._idx import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    images_and_labels,
    parse_idx,
    write_idx,
)

rng = np.random.default_rng(3)
ARRAYS = {
    TRAIN_IMAGES: rng.integers(256, size=(6, 28, 28), dtype=np.uint8),
    TRAIN_LABELS: np.array([0, 9, 3, 3, 5, 1], dtype=np.uint8),
    TEST_IMAGES: rng.integers(256, size=(2, 28, 28), dtype=np.uint8),
    TEST_LABELS: np.array([2, 7], dtype=np.uint8),
}
CONTENTS = {name: write_idx(array) for name, array in ARRAYS.items()}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def pinned(name):
    content = CONTENTS[name]
    packed = gzip.compress(content, mtime=0)
    return DataFile(name, len(content), f"sha256:{sha256(content)}", f"{name}.gz", sha256(packed))


FILES = FileSet("tiny", tuple(pinned(name) for name in CONTENTS), folders=("tiny", "old-name"))


@pytest.fixture(autouse=True)
def _clean_places(monkeypatch, tmp_path):
    monkeypatch.delenv("FEDSIEVE_DATA", raising=False)
    monkeypatch.setenv("FEDSIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def put(folder, names=tuple(CONTENTS), suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    pack = {".gz": gzip.compress, ".xz": lzma.compress, "": bytes}[suffix]
    for name in names:
        (folder / (name + suffix)).write_bytes(pack(CONTENTS[name]))
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_any_compression_of_the_right_content_passes(tmp_path, suffix):
    folder = put(tmp_path / "x", suffix=suffix)
    located, contents = _places.require(FILES, folder, download=False)
    assert located.kind == "data directory"
    dataset = images_and_labels(contents, "tiny", located.origin, mean=0.5, std=0.5, licence="none")
    assert dataset.x.shape == (6, 1, 28, 28)
    for tensor, name in (
        (dataset.x[:, 0], TRAIN_IMAGES),
        (dataset.y, TRAIN_LABELS),
        (dataset.x_test[:, 0], TEST_IMAGES),
        (dataset.y_test, TEST_LABELS),
    ):
        assert np.array_equal(tensor.numpy(), ARRAYS[name])
        assert dataset.checksums[name] == sha256(CONTENTS[name])
    assert "6 training and 2 test" in dataset.source
    assert str(folder) in dataset.source
    assert sha256(CONTENTS[TRAIN_IMAGES]) in dataset.source


def flipped(packed):
    content = bytearray(CONTENTS[TRAIN_IMAGES])
    content[1000] ^= 1
    return gzip.compress(bytes(content))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda packed: packed[:-100], None),  # cut inside the stream
        (lambda packed: packed[:-4], None),  # the content is whole, gzip's trailer is not
        (lambda packed: b"", sha256(b"")),
        (lambda packed: b"<html>not found</html>", sha256(b"")),
        (lambda packed: packed[:200] + b"\0\0\0\0" + packed[204:], None),
        (flipped, sha256(gzip.decompress(flipped(b"")))),
        (lambda packed: packed + gzip.compress(b"extra"), None),
        (lambda packed: gzip.compress(CONTENTS[TEST_IMAGES]), sha256(CONTENTS[TEST_IMAGES])),
    ],
    ids=["cut", "trailer", "empty", "html", "corrupted", "bit", "extra", "wrong"],
)
def test_damaged_file_is_refused_with_name_and_both_checksums(tmp_path, damage, found):
    folder = put(tmp_path / "x")
    path = folder / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as refused:
        _places.require(FILES, folder, download=False)
    message = str(refused.value)
    assert str(path) in message
    assert f"expected sha256 {sha256(CONTENTS[TRAIN_IMAGES])}" in message
    assert "found sha256" in message
    if found is not None:
        assert f"found sha256 {found}" in message


def test_no_more_than_the_pinned_size_is_unpacked(tmp_path):
    bomb = tmp_path / "bomb.xz"
    bomb.write_bytes(lzma.compress(bytes(1 << 24), preset=0))
    small = DataFile("bomb", 1000, f"sha256:{sha256(bytes(1000))}")
    with pytest.raises(DataError, match="of more than 1000 bytes"):
        read_file(small, bomb)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:10], "offset 10"),
        (lambda c: b"\0\0\x0b" + c[3:], "magic 2819 at offset 0, expected 2051"),
        (lambda c: c[:3] + b"\x01" + c[4:], "magic 2049"),
        (lambda c: c[:-1], "4704 bytes announced for shape \\(6, 28, 28\\), 4703 found"),
        (lambda c: c + b"\0", "4705 found after offset 16"),
        (lambda c: c[:4] + b"\xff" * 12 + c[16:], "bytes announced"),  # would overflow 64 bits
    ],
)
def test_idx_header_is_checked_before_anything_else(change, message):
    with pytest.raises(DataError, match=message):
        parse_idx(bytearray(change(CONTENTS[TRAIN_IMAGES])), 3, "file")


def test_places_are_searched_in_order(tmp_path, monkeypatch):
    system = put(tmp_path / "usr")
    files = replace(FILES, system=(tmp_path / "absent", system))
    assert _places.locate(files).kind == "system package"
    cache = put(tmp_path / "cache" / "tiny")
    assert (_places.locate(files).kind, _places.locate(files).folder) == ("cache", cache)
    data = put(tmp_path / "data" / "old-name").parent
    monkeypatch.setenv("FEDSIEVE_DATA", str(data))
    assert _places.locate(files).kind == "FEDSIEVE_DATA"
    given = put(tmp_path / "given")
    assert _places.locate(files, given).folder == given


def test_given_directory_without_the_set_is_an_error(tmp_path):
    put(tmp_path / "cache" / "tiny")  # a full copy elsewhere must not be used instead
    with pytest.raises(DataError) as refused:
        _places.locate(FILES, tmp_path / "nothing")
    assert str(tmp_path / "nothing") in str(refused.value)
    assert all(name in str(refused.value) for name in CONTENTS)


def test_incomplete_directory_is_an_error_unless_it_is_the_cache(tmp_path, monkeypatch):
    part = put(tmp_path / "part" / "tiny", [TRAIN_IMAGES, TRAIN_LABELS])
    with pytest.raises(DataError, match=f"lacks {TEST_IMAGES}, {TEST_LABELS}"):
        _places.locate(FILES, part)
    monkeypatch.setenv("FEDSIEVE_DATA", str(tmp_path / "part"))
    with pytest.raises(DataError, match=f"FEDSIEVE_DATA .* lacks {TEST_IMAGES}"):
        _places.locate(FILES)
    monkeypatch.delenv("FEDSIEVE_DATA")
    put(tmp_path / "cache" / "tiny", [TRAIN_IMAGES])  # a download that was broken off
    assert _places.locate(FILES) is None


def test_mistyped_environment_variable_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIEVE_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError, match=r"FEDSIEVE_DATA=.*typo.* is not a directory"):
        _places.locate(FILES)


def test_absent_set_names_places_and_remedies(tmp_path):
    with pytest.raises(DataError, match="fedsieve data fetch tiny") as refused:
        _places.require(FILES, None, download=False)
    assert str(tmp_path / "cache" / "tiny") in str(refused.value)


@pytest.fixture
def mirror(tmp_path):
    served = put(tmp_path / "served")
    for name in CONTENTS:  # without a time stamp, as pinned
        (served / f"{name}.gz").write_bytes(gzip.compress(CONTENTS[name], mtime=0))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", served
        server.shutdown()
        thread.join()


def test_download_only_when_asked_then_cached(tmp_path, mirror):
    url, _ = mirror
    files = replace(FILES, mirrors=(url + "missing/", url))
    assert _places.read(files, None, download=False) is None
    assert not (tmp_path / "cache").exists()
    located, contents = _places.read(files, None, download=True)
    assert (located.kind, located.folder) == ("download", tmp_path / "cache" / "tiny")
    assert contents.data == {name: bytearray(CONTENTS[name]) for name in CONTENTS}
    assert _places.locate(files).kind == "cache"


def test_wrong_download_is_refused_and_not_kept(tmp_path, mirror):
    url, served = mirror
    (served / f"{TEST_LABELS}.gz").write_bytes(gzip.compress(b"something else"))
    files = replace(FILES, mirrors=(url,))
    with pytest.raises(DataError, match=f"cannot fetch {TEST_LABELS}.gz") as refused:
        _places.fetch_files(files)
    assert url in str(refused.value)
    assert files.files[3].remote_sha256 in str(refused.value)
    assert not (tmp_path / "cache" / "tiny" / f"{TEST_LABELS}.gz").exists()
    assert _places.read(files, None, download=False) is None


def test_fetch_repairs_a_damaged_cache(tmp_path, mirror):
    files = replace(FILES, mirrors=(mirror[0],))
    cache = put(tmp_path / "cache" / "tiny")
    (cache / f"{TRAIN_IMAGES}.gz").write_bytes(b"broken off")
    with pytest.raises(DataError, match="is truncated, corrupted"):
        _places.read(files, None, download=False)
    _places.fetch_files(files)
    assert _places.read(files, None, download=False) is not None


def test_what_came_before_a_break_is_told(tmp_path):
    content = np.random.default_rng(0).bytes(3_000_000)
    (place := tmp_path / "cut.gz").write_bytes(gzip.compress(content)[:2_500_000])
    with pytest.raises(DataError, match=r"found sha256 \w+ of \d+ bytes that could be") as told:
        read_file(DataFile("cut", 3_000_000, "sha256:" + "0" * 64), place)
    found, size = re.search(r"found sha256 (\w+) of (\d+)", str(told.value)).groups()
    assert 2_000_000 < int(size) < 2_500_001
    assert found == sha256(content[: int(size)])


def tar(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


PACKED = replace(FILES, archive=Archive("tiny.tar.gz", "0" * 64))


def test_archive_is_read_without_unpacking(tmp_path):
    members = [("t/readme", b"text"), *((f"t/{n}", c) for n, c in CONTENTS.items())]
    (tmp_path / "tiny.tar.gz").write_bytes(tar(members))
    _, contents = _places.require(PACKED, tmp_path, download=False)
    assert contents.data == {name: bytearray(content) for name, content in CONTENTS.items()}
    assert PACKED.downloads == (("tiny.tar.gz", "0" * 64),)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.tar.gz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar([(f"t/{name}", CONTENTS[name]) for name in list(CONTENTS)[:3]]), TEST_LABELS),
        (tar([(f"t/{name}", None) for name in CONTENTS]), "lacks"),  # links are not followed
        (tar([(f"t/{name}", b"?") for name in CONTENTS]), "found sha256"),
        (tar([(f"t/{n}", c) for n, c in CONTENTS.items()])[:-2000], "tiny.tar.gz"),
        (b"no archive", "no readable archive"),
    ],
    ids=["incomplete", "links", "wrong", "cut", "garbage"],
)
def test_damaged_archive_is_refused(tmp_path, content, message):
    (tmp_path / "tiny.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        _places.require(PACKED, tmp_path, download=False)


def test_md5_pin_still_reports_sha256(tmp_path):
    content = b"records"
    (tmp_path / "a.bin").write_bytes(content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    files = FileSet("m", (DataFile("a.bin", 7, f"md5:{md5}"),), folders=())
    assert files.read(files.present(tmp_path)).sha256 == {"a.bin": sha256(content)}
    (tmp_path / "a.bin").write_bytes(b"recordz")
    with pytest.raises(DataError, match=f"expected md5 {md5}"):
        files.read(files.present(tmp_path))


def test_sources_and_verify(tmp_path, monkeypatch):
    files = replace(FILES, mirrors=("https://example.org/",), system=(tmp_path / "usr",))
    registry.components("dataset")  # all sets are known before one is replaced
    monkeypatch.setitem(_places._file_sets, "mnist", files)
    folder = put(tmp_path / "data" / "tiny")
    monkeypatch.setenv("FEDSIEVE_DATA", str(tmp_path / "data"))
    put(tmp_path / "usr", [TRAIN_IMAGES])
    states = [(s.kind, s.state) for s in _catalogue.sources("mnist")]
    assert states == [
        ("FEDSIEVE_DATA", "complete"),
        ("FEDSIEVE_DATA", "absent"),
        ("FEDSIEVE_DATA", "absent"),
        ("cache", "absent"),
        ("system package", "incomplete"),
        ("download", "on request"),
    ]
    verified = _catalogue.verify("mnist")
    paths = files.present(folder)
    assert verified == {str(paths[name]): sha256(content) for name, content in CONTENTS.items()}
    (folder / f"{TEST_LABELS}.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match=TEST_LABELS):
        _catalogue.verify("mnist")


def test_the_cache_is_the_users_unless_it_is_moved(tmp_path, monkeypatch):
    assert _places.cache_directory() == tmp_path / "cache"
    monkeypatch.delenv("FEDSIEVE_CACHE")
    assert _places.cache_directory().name == "fedsieve"
    assert _catalogue.sources("digits") == ()


def test_fetch_into_a_directory(tmp_path, mirror, monkeypatch):
    registry.components("dataset")
    monkeypatch.setitem(
        _places._file_sets, "mnist", replace(FILES, folders=("mnist",), mirrors=(mirror[0],))
    )
    assert _catalogue.fetch("mnist", tmp_path / "here") == tmp_path / "here" / "mnist"
    assert len(_catalogue.verify("mnist", tmp_path / "here")) == 4
    with pytest.raises(DataError, match="digits needs no download"):
        _catalogue.fetch("digits")
