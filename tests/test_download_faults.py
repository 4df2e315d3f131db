"""What goes wrong on the way to a server, each in its own words and with what to do about it."""

import errno
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3.util.connection

from mobilesam_export.checkpoint import download as downloads
from mobilesam_export.checkpoint.download_faults import without_login
from mobilesam_export.errors import CheckpointError
from tests.cli_runner import ERROR, refused

AWAY = "http://weights.invalid/w.pt"  # is asked of proxies only
OTHER_MEANS = "get w.pt by other means and set $MOBILESAM_CHECKPOINT to its path"


class Handler(BaseHTTPRequestHandler):
    """A server that answers with the status in the path, and a proxy that asks for a login."""

    done = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/silent":
            self.done.wait()
            return
        self.send_response(407 if self.path.startswith("http:") else int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_CONNECT(self) -> None:
        self.send_response(407)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the tests' stderr."""


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that hangs up, as one that distrusts a certificate does, is no error here."""


def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server on this machine, with TLS if there is a context."""
    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        Handler.done.clear()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        Handler.done.set()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    for port in serving():
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls_server(authority: trustme.CA) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for port in serving(context):
        yield f"https://127.0.0.1:{port}/200"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies and certificates of the machine that runs the tests do not count."""
    for name in os.environ:
        if name.lower().endswith(("_proxy", "_ca_bundle")) or name.startswith("MOBILESAM_"):
            monkeypatch.delenv(name)


def fault(url: str, folder: Path) -> str:
    """The one line that a failing download ends with; nothing is left in the cache."""
    with pytest.raises(CheckpointError) as caught:
        downloads.fetch(downloads.Download(url, "w.pt", 1, "0" * 64), folder)
    assert not folder.is_dir() or not list(folder.iterdir())
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(OTHER_MEANS)
    return message


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "HTTP 401: the server asks for a login"),
        (403, "HTTP 403: the server does not allow it"),
        (404, "HTTP 404: there is no such file"),
        (410, "(HTTP 410)"),
        (429, "HTTP 429: too many requests; try again later"),
        (503, "HTTP 503: the server is out of order; try again later"),
    ],
)
def test_status_of_the_server(status: int, words: str, server: str, tmp_path: Path) -> None:
    message = fault(f"{server}/{status}", tmp_path)
    assert message.startswith(f"could not download {server}/{status} (")
    assert words in message


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_asks_for_a_login(
    scheme: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", server)
    message = fault(AWAY.replace("http", scheme), tmp_path)
    assert "HTTP 407: the proxy asks for a login; write it into $HTTPS_PROXY" in message


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://me:secret@127.0.0.1:{port}", "no connection to the proxy; correct or unset"),
        ("::bad", "no connection to the proxy; correct or unset"),
        ("socks5://127.0.0.1:{port}", 'pip install "requests[socks]"'),
    ],
)
def test_proxy_that_cannot_be_used(
    proxy: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.format(port=closed_port()))
    message = fault(AWAY, tmp_path)
    assert words in message
    assert "secret" not in message


def test_certificate_that_is_not_trusted(tls_server: str, tmp_path: Path) -> None:
    message = fault(tls_server, tmp_path)
    assert "the certificate is not trusted: " in message
    assert "set $REQUESTS_CA_BUNDLE to the .pem file" in message


def test_certificate_that_is_trusted_by_the_advice_that_was_given(
    tls_server: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    assert "sent something else" in fault(tls_server, tmp_path / "cache")


def test_file_of_certificates_that_is_none(
    tls_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    message = fault(tls_server, tmp_path)
    assert "the file of certificates that $REQUESTS_CA_BUNDLE" in message
    assert "cache" not in message


def test_server_without_tls(server: str, tmp_path: Path) -> None:
    assert "no TLS connection" in fault(server.replace("http", "https") + "/200", tmp_path)


def raising(exc: Exception) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> None:
        raise exc

    return function


def test_name_that_cannot_be_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    monkeypatch.setattr(socket, "getaddrinfo", raising(unknown))
    assert "the name weights.invalid cannot be resolved; check network and DNS" in fault(
        AWAY, tmp_path
    )


def test_machine_that_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = OSError(errno.ENETUNREACH, "Network is unreachable")
    monkeypatch.setattr(urllib3.util.connection, "create_connection", raising(offline))
    assert "the network cannot be reached; is this machine online?" in fault(AWAY, tmp_path)


def test_nobody_listens(tmp_path: Path) -> None:
    assert "refused, no server answers" in fault(f"http://127.0.0.1:{closed_port()}/", tmp_path)


def test_server_that_does_not_answer(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.2)
    assert "no answer from 127.0.0.1 within" in fault(f"{server}/silent", tmp_path)


@pytest.mark.parametrize("url", ["mirror", "http://", "ftp://x/w.pt", "file:///w.pt", "http://[::"])
def test_address_that_is_none(url: str, tmp_path: Path) -> None:
    assert f"could not download {url} (this is not an address" in fault(url, tmp_path)


def test_cache_that_is_a_file(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = fault(f"{server}/200", tmp_path / "file" / "cache")
    assert f"cannot write to the cache {tmp_path}/file/cache: Not a directory" in message
    assert "set $XDG_CACHE_HOME to another folder" in message


def test_cache_that_may_not_be_written(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", raising(forbidden))
    message = fault(f"{server}/200", tmp_path)
    assert f"cannot write to the cache {tmp_path}: Permission denied; set $XDG" in message


def test_disk_that_is_full(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", raising(full))
    message = fault(f"{server}/200", tmp_path)
    assert f"cannot write to the cache {tmp_path}: No space left on device; free some" in message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@host:8/w.pt?x=1", "https://host:8/w.pt?x=1"),
        ("https://host/@/w.pt", "https://host/@/w.pt"),
        ("http://[::", "http://[::"),
    ],
)
def test_addresses_are_shown_without_logins(url: str, shown: str) -> None:
    assert without_login(url) == shown


def test_certificates_through_the_command_line(tls_server: str, tmp_path: Path) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    env = {"MOBILESAM_CHECKPOINT_URL": tls_server}
    phrases = [f"could not download {tls_server}", "certificate is not trusted"]
    refused(tmp_path, ["checkpoint", "fetch"], ERROR, phrases, env)


def test_proxy_through_the_command_line(server: str, tmp_path: Path) -> None:
    (tmp_path / "cache" / "mobilesam-export").mkdir(parents=True)
    env = {"MOBILESAM_CHECKPOINT_URL": AWAY, "http_proxy": server, "HTTP_PROXY": server}
    phrases = [f"could not download {AWAY}", "HTTP 407", "$HTTPS_PROXY"]
    refused(tmp_path, ["onnx"], ERROR, phrases, env)
