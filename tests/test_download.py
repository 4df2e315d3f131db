"""The download, against a server on this machine: whole or not at all."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mobilesam_export.checkpoint.download import OFFICIAL, Download, fetch
from mobilesam_export.errors import CheckpointError

CONTENT = b"weights" * 100_000
REQUESTS: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """/whole sends CONTENT, /cut a part of it, /other something else, anything else 404."""

    def do_GET(self) -> None:
        REQUESTS.append(self.path)
        body = {"/whole": CONTENT, "/cut": CONTENT, "/other": b"?" * len(CONTENT)}.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write((body or b"")[: 1000 if self.path == "/cut" else None])

    def log_message(self, *_: object) -> None:
        """Nothing on the tests' stderr."""


@pytest.fixture
def server() -> Iterator[str]:
    REQUESTS.clear()
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def download(url: str) -> Download:
    return Download(url, "w.pt", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_it_is_fetched_once(server: str, tmp_path: Path) -> None:
    for _ in range(2):
        path = fetch(download(f"{server}/whole"), tmp_path)
        assert path.read_bytes() == CONTENT
    assert REQUESTS == ["/whole"]
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]


def test_a_damaged_cache_is_fetched_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(CONTENT[:-1])
    assert fetch(download(f"{server}/whole"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "message"),
    [("/cut", "could not download"), ("/other", "sent something else"), ("/gone", "HTTP 404")],
)
def test_nothing_is_cached_when_it_goes_wrong(
    server: str, tmp_path: Path, path: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        fetch(download(f"{server}{path}"), tmp_path)
    assert "set $MOBILESAM_CHECKPOINT" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_old_cache_survives_a_failing_mirror(server: str, tmp_path: Path) -> None:
    fetch(download(f"{server}/whole"), tmp_path)
    assert fetch(download(f"{server}/gone"), tmp_path).read_bytes() == CONTENT


def test_a_mirror_can_be_named(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_URL", f"{server}/whole")
    assert fetch(download("http://127.0.0.1:1/never"), tmp_path).read_bytes() == CONTENT


def test_the_official_file_is_pinned() -> None:
    """The hash is also in executorch's MobileSAM example."""
    assert "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt" in OFFICIAL.url
    assert OFFICIAL.size == 40_728_226
    assert OFFICIAL.sha256.startswith("6dbb90523a35330f")
    assert len(OFFICIAL.sha256) == 64
