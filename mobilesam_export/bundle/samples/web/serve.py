"""Serve the bundle that this file lies in on 127.0.0.1: python3 serve.py [PORT].

For trials. It sends the two headers with which browsers let WebAssembly use threads (COOP, COEP);
your own server has to send them, too, or the model runs on one thread.
"""

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[2]


class Handler(SimpleHTTPRequestHandler):
    """Files with the headers of cross-origin isolation."""

    extensions_map = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

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
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(BUNDLE)))
    except OSError as error:
        sys.exit(f"Error: port {port} cannot be used ({error.strerror}); name another one")
    address = f"http://127.0.0.1:{server.server_port}/sample/web/"
    sys.stdout.write(f"Open {address} (Ctrl-C ends)\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
