"""The web sample's own server: ports that it cannot have."""

import socket
import subprocess
import sys

from tests.conftest import ROOT

SERVER = ROOT / "mobilesam_export" / "bundle" / "samples" / "web" / "serve.py"


def refused_port(port: str) -> tuple[int, str]:
    """Exit code and last line of `serve.py PORT`."""
    command = [sys.executable, str(SERVER), port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.splitlines()[-1]


def test_a_busy_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, said = refused_port(port)
    assert code == 1
    assert said == f"Error: port {port} cannot be used (Address already in use); name another one"


def test_what_is_no_port_is_refused_in_words() -> None:
    code, said = refused_port("99999")
    assert code == 1
    assert said == "Error: port 99999 cannot be used (expected 0 to 65535); name another one"
    code, said = refused_port("web")
    assert code == 2
    assert said.endswith("error: argument port: invalid int value: 'web'")
