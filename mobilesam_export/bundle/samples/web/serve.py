"""Serve the bundle that this file lies in on 127.0.0.1: python3 serve.py [PORT].

For trials. It sends the two headers with which browsers let WebAssembly use threads (COOP, COEP);
your own server has to send them, too, or the model runs on one thread.
"""

import argparse
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[2]


class Handler(SimpleHTTPRequestHandler):
    """Files with the headers of cross-origin isolation."""

    def end_headers(self) -> None:
        """Add them to every answer."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of single requests."""


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the page of this bundle on 127.0.0.1.")
    parser.add_argument("port", nargs="?", type=int, default=8000, help="default: 8000; 0: any")
    port = parser.parse_args().port
    for suffix in (".js", ".mjs"):  # some systems call these text/plain, which no browser runs
        Handler.extensions_map[suffix] = "text/javascript"
    Handler.extensions_map[".wasm"] = "application/wasm"
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(BUNDLE)))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "expected 0 to 65535"
        sys.exit(f"Error: port {port} cannot be used ({reason}); name another one")
    address = f"http://127.0.0.1:{server.server_port}/sample/web/"
    sys.stdout.write(f"Open {address} (Ctrl-C ends)\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
