"""Published weights: the list is what the nets' own files say; a download ends whole, or goes on, or says why not.

The server is this machine's own.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from tests.caffe.conftest import GOLDEN
from tests.caffe.test_caffe_files import blob, caffemodel, chunk

from fullconv.base.errors import CaffeError, DiskFull, FullconvError, Unwritable, WeightsError
from fullconv.caffe.published import PUBLISHED, Published, download, keep, part_of, proved
from fullconv.cli import main

NETS = GOLDEN.parent / "data/caffe-models/fcn-prototxt"
SIZES = (30, 100)  # of the layer's weights
NUMBERS = np.random.default_rng(0).normal(size=SIZES).astype("<f4")
WHOLE = caffemodel(blob(chunk(5, NUMBERS.tobytes()), *SIZES), blob(chunk(5, bytes(120)), 30))
SUM = hashlib.sha256(WHOLE).hexdigest()
WEIGHTS = Published("http://unused", {"conv": (SIZES, (30,))})


# ---- the list -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_addresses_and_layers_are_those_of_the_nets_own_files(golden: Path, name: str) -> None:
    nets = json.loads((golden / "fcn_shapes.json").read_text())
    assert (NETS / name / "caffemodel-url").read_text().strip() == PUBLISHED[name].address
    own = [net["params"] for path, net in nets.items() if path.startswith(f"{name}/")]
    assert own
    listed = {layer: [list(shape) for shape in shapes] for layer, shapes in PUBLISHED[name].layers.items()}
    assert all(listed == layers for layers in own)


def test_every_folder_with_an_address_is_listed(golden: Path) -> None:
    assert sorted(PUBLISHED) == sorted(path.parent.name for path in NETS.glob("*/caffemodel-url"))
    assert PUBLISHED["voc-fcn8s"].parameters == 134_489_759


# ---- a server that can be told to misbehave -------------------------------------------------------------------------


@dataclass
class Site:
    """What the server holds and does.

    Args:
        cut: bytes after which the connection ends, once.
        ranges: whether it sends parts of a file.
        shift: bytes by which a part begins elsewhere than asked for.
        says_length: whether it says how long the file is.
        in_chunks: whether it says before each part how long that is, and there are always more to come.
        asked: the Range of each request.
    """

    data: bytes = WHOLE
    status: int = 200
    cut: int | None = None
    ranges: bool = True
    shift: int = 0
    says_length: bool = True
    in_chunks: bool = False
    asked: list[str | None] = field(default_factory=list)
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.site
        wanted = self.headers.get("Range")
        site.asked.append(wanted)
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else None
        if site.status != 200:
            self.send_error(site.status)
            return
        if first is not None and first >= len(site.data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.data)}")
            self.end_headers()
            return
        begin = (first or 0) + (site.shift if first is not None else 0)
        self.send_response(200 if first is None else 206)
        if first is not None:
            self.send_header("Content-Range", f"bytes {begin}-{len(site.data) - 1}/{len(site.data)}")
        if site.in_chunks:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.close_connection = True
            self.wfile.write(b"%x\r\n%b\r\n" % (len(site.data), site.data))
            return
        if site.says_length:
            self.send_header("Content-Length", str(len(site.data) - begin))
        self.end_headers()
        self.close_connection = True
        end, site.cut = site.cut, None
        self.wfile.write(site.data[begin : None if end is None else begin + end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    own = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"site": own}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    own.address = f"http://127.0.0.1:{server.server_port}/weights.caffemodel"
    yield own
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(site: Site, path: Path, *, sha256: str | None = None) -> str:
    for _ in download(site.address, path, timeout=5):
        pass
    return keep(path, WEIGHTS, sha256=sha256)


# ---- downloads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_comes_whole(site: Site, tmp_path: Path, says_length: bool) -> None:
    site.says_length = says_length
    assert fetched(site, tmp_path / "new" / "w.caffemodel") == SUM
    assert (tmp_path / "new" / "w.caffemodel").read_bytes() == WHOLE
    assert not part_of(tmp_path / "new" / "w.caffemodel").exists()


def test_what_is_there_is_told_megabyte_by_megabyte(site: Site, tmp_path: Path) -> None:
    site.data = bytes(2_500_000)
    parts = list(download(site.address, tmp_path / "w"))
    assert [part.there // 1_000_000 for part in parts] == [1, 2, 2]
    assert parts[-1].there == 2_500_000
    assert {(part.total, part.chunks) for part in parts} == {(2_500_000, 3)}


def test_a_cut_download_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    site.cut = 5000
    with pytest.raises(WeightsError, match=f"5000 of {len(WHOLE)} bytes") as stopped:
        fetched(site, path)
    assert "same command" in stopped.value.try_
    assert str(part_of(path)) in stopped.value.try_
    assert not path.exists()
    assert part_of(path).read_bytes() == WHOLE[:5000]
    assert fetched(site, path) == SUM
    assert site.asked == [None, "bytes=5000-"]


@pytest.mark.parametrize("how", ["no ranges", "another range", "a longer part", "all is there"])
def test_a_part_is_gone_on_with_only_where_it_fits(site: Site, tmp_path: Path, how: str) -> None:
    path = tmp_path / "w.caffemodel"
    site.ranges, site.shift = how != "no ranges", 7 if how == "another range" else 0
    kept = {"a longer part": WHOLE + b"x", "all is there": WHOLE}.get(how, b"x" * 5000)
    part_of(path).write_bytes(kept)
    assert fetched(site, path) == SUM
    assert len(site.asked) == (1 if how in ("no ranges", "all is there") else 2)


def test_a_file_whose_length_nobody_says_is_found_cut_by_reading_it(site: Site, tmp_path: Path) -> None:
    site.says_length, site.cut = False, 5000
    with pytest.raises(CaffeError, match="LayerParameter 'conv'"):
        fetched(site, tmp_path / "w.caffemodel")


def test_a_file_in_chunks_is_not_taken_for_whole_before_the_last(site: Site, tmp_path: Path) -> None:
    site.in_chunks = True
    with pytest.raises(WeightsError, match="the connection ended after"):
        fetched(site, tmp_path / "w.caffemodel")
    assert part_of(tmp_path / "w.caffemodel").read_bytes() == WHOLE


@pytest.mark.parametrize(
    ("status", "said"), [(404, "404"), (403, "403"), (500, "later, the same command"), (503, "later, the same command")]
)
def test_a_server_that_refuses_is_named(site: Site, tmp_path: Path, status: int, said: str) -> None:
    path = tmp_path / "w.caffemodel"
    part_of(path).write_bytes(WHOLE[:100])
    site.status = status
    with pytest.raises(WeightsError, match=said) as refused:
        fetched(site, path)
    assert site.address in refused.value.found
    assert part_of(path).read_bytes() == WHOLE[:100]
    assert ("goes on behind" in refused.value.try_) == (status >= 500)


def test_who_is_offline_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1 can be reached") as refused:
        list(download(f"http://127.0.0.1:{port}/w", tmp_path / "w"))
    assert refused.value.found == "Connection refused"

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(WeightsError, match=r"weights\.example can be reached") as refused:
        list(download("http://weights.example/w", tmp_path / "w"))
    assert "name is not known" in refused.value.found


def test_a_server_that_falls_silent_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(WeightsError, match="nothing came"):
        list(download(f"http://127.0.0.1:{silent.getsockname()[1]}/w", tmp_path / "w", timeout=0.2))


def test_a_full_disk_is_said(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.caffemodel"
    part_of(path).symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        fetched(site, path)
    part_of(path).unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(DiskFull, match=r"needs 0\.0 MB"):
        fetched(site, path)
    assert not part_of(path).exists()


def test_a_folder_is_no_file_to_write(site: Site, tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").mkdir()
    with pytest.raises(Unwritable):
        fetched(site, tmp_path / "w.caffemodel")
    (tmp_path / "file").write_text("")
    with pytest.raises(Unwritable):
        fetched(site, tmp_path / "file" / "w.caffemodel")
    assert site.asked == []


# ---- proof ----------------------------------------------------------------------------------------------------------

OTHER = {
    "a web page": (b"<!DOCTYPE html><title>Sign in</title>", "another kind"),
    "no such layer": (caffemodel().replace(b"conv", b"rain"), "no such layer"),
    "another shape": (caffemodel(blob(chunk(5, NUMBERS.tobytes()), 100, 30), blob(chunk(5, bytes(120)), 30)), "100x30"),
    "no bias": (caffemodel(blob(chunk(5, NUMBERS.tobytes()), *SIZES)), "30x100 and 30"),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_file_is_kept_aside_and_fetched_anew(site: Site, tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.caffemodel"
    site.data, said = OTHER[name]
    with pytest.raises(FullconvError, match=said) as refused:
        fetched(site, path)
    assert "w.caffemodel.wrong" in refused.value.try_
    assert not path.exists()
    assert path.with_name("w.caffemodel.wrong").read_bytes() == site.data
    site.data = WHOLE
    assert fetched(site, path) == SUM
    assert site.asked == [None, None]


def test_a_sum_that_is_given_must_be_the_files(site: Site, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="0" * 64) as refused:
        fetched(site, tmp_path / "w.caffemodel", sha256="0" * 64)
    assert refused.value.found == SUM
    assert fetched(site, tmp_path / "w.caffemodel", sha256=SUM.upper()) == SUM


def test_shapes_of_old_files_are_compared_as_caffe_does(tmp_path: Path) -> None:
    four = b"\x08\1\x10\1\x18\x1e\x20\x64" + chunk(5, NUMBERS.tobytes())
    bias = b"\x08\1\x10\1\x18\1\x20\x1e" + chunk(5, bytes(120))
    (tmp_path / "w.caffemodel").write_bytes(caffemodel(four, bias))
    proved(tmp_path / "w.caffemodel", WEIGHTS)


# ---- the command ----------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["caffe", "fetch", *words])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


@pytest.fixture
def listed(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command knows this machine's weights as "tiny", and stands in an empty folder."""
    monkeypatch.setitem(PUBLISHED, "tiny", Published(site.address, WEIGHTS.layers))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("listed")
def test_the_command_fetches_proves_and_says_what_comes_next(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    code, out, err = run(capsys, "tiny")
    assert (code, err) == (0, "")
    assert Path("tiny.caffemodel").read_bytes() == WHOLE
    assert f"sha256 {SUM} (no published one is known" in out
    assert "fullconv caffe convert deploy.prototxt tiny.caffemodel --out BUNDLE" in out
    code, out, _ = run(capsys, "tiny", "--sha256", SUM)
    assert code == 0
    assert "is there already" in out
    assert "as asked for" in out
    assert len(site.asked) == 1


@pytest.mark.usefixtures("listed")
def test_the_command_goes_on_after_a_cut(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    site.cut = 5000
    code, _, err = run(capsys, "tiny", "--out", "w")
    assert code == 1
    assert [line.split(":")[0] for line in err.strip().splitlines()] == ["error", "found", "try"]
    code, _, _ = run(capsys, "tiny", "--out", "w")
    assert code == 0
    assert Path("w").read_bytes() == WHOLE


@pytest.mark.usefixtures("listed")
def test_a_file_that_is_there_and_another_is_left(capsys: pytest.CaptureFixture[str], site: Site) -> None:
    Path("tiny.caffemodel").write_bytes(b"mine")
    code, _, err = run(capsys, "tiny")
    assert code == 1
    assert "error:" in err
    assert Path("tiny.caffemodel").read_bytes() == b"mine"
    assert site.asked == []


@pytest.mark.usefixtures("listed")
def test_the_command_compares_the_sum(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "tiny", "--sha256", "0" * 64)
    assert code == 1
    assert "tiny.caffemodel.wrong" in err


@pytest.mark.usefixtures("listed")
def test_ctrl_c_says_that_the_part_is_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fullconv.base.progress.progress", stopped)
    code, _, err = run(capsys, "tiny")
    assert code == 130
    assert "tiny.caffemodel.part is kept: the same command goes on" in err


def test_without_a_name_the_command_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(PUBLISHED)
    assert "134,489,759 parameters,   538 MB" in out


@pytest.mark.parametrize("words", [["voc-fcn9s"], ["voc-fcn8s", "--sha256", "abc"]])
def test_a_wrong_word_is_three_lines_and_exit_2(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert [line.split(":")[0] for line in err.strip().splitlines()] == ["error", "found", "try"]
