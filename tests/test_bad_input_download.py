"""Downloads that go wrong, through the command line: one line each, nothing half-written."""

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_runner import ERROR, refused


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as the path says: /wrong, /missing, /cut or /long."""

    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/missing" else 200)
        body = b"x" * (1_000_000 if self.path == "/long" else 5000)
        self.send_header("Content-Length", str(len(body) * (2 if self.path == "/cut" else 1)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def cached(folder: Path) -> list[str]:
    """Files in the cache."""
    return [path.name for path in (folder / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("path", "phrase"),
    [("/wrong", "SHA-256"), ("/missing", "HTTP 404"), ("/cut", "could not download")],
)
def test_failed_download_leaves_nothing(
    path: str, phrase: str, server: str, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    env = {"MOBILESAM_CHECKPOINT_URL": server + path}
    phrases = [phrase, server + path, "set $MOBILESAM_CHECKPOINT"]
    refused(tmp_path, ["checkpoint", "fetch"], ERROR, phrases, env)
    assert cached(tmp_path) == []


def test_disk_full_during_the_download(server: str, tmp_path: Path) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    env = {"MOBILESAM_CHECKPOINT_URL": f"{server}/long"}
    phrases = ["cannot write", "cache", "File too large"]
    refused(tmp_path, ["checkpoint", "fetch"], ERROR, phrases, env, file_limit=100_000)
    assert cached(tmp_path) == []


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.mark.parametrize("arguments", [["onnx"], ["checkpoint", "fetch"]])
def test_no_network(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    url = f"http://127.0.0.1:{closed_port()}/mobile_sam.pt"
    phrases = [f"could not download {url}", "set $MOBILESAM_CHECKPOINT"]
    env = {"MOBILESAM_CHECKPOINT_URL": url}
    refused(tmp_path, arguments, ERROR, phrases, env)
    assert cached(tmp_path) == []


def test_address_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    env = {"MOBILESAM_CHECKPOINT_URL": "mirror"}
    refused(tmp_path, ["checkpoint", "fetch"], ERROR, ["download mirror"], env)


def test_damaged_cached_file_is_never_used(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "mobilesam-export"
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt").write_bytes(b"half a file")
    env = {"MOBILESAM_CHECKPOINT_URL": f"{server}/cut"}
    refused(tmp_path, ["onnx"], ERROR, ["could not download"], env)


def test_cache_that_cannot_be_made(server: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    env = {"MOBILESAM_CHECKPOINT_URL": f"{server}/wrong"}
    phrases = ["cannot write to", "mobilesam-export", "set $MOBILESAM_CHECKPOINT"]
    refused(tmp_path, ["checkpoint", "fetch"], ERROR, phrases, env)
