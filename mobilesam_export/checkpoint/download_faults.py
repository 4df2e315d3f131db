"""Network faults of a download -> short messages that say what to do.

requests reports most faults as a ConnectionError around urllib3's MaxRetryError around the cause;
the cause is what a user can do something about.
"""

import errno
import ssl
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

TIMEOUT_S = 30  # a server that stops answering is an error, not a hang
NO_ADDRESS = (
    "this is not an address to download from; $MOBILESAM_CHECKPOINT_URL must be one like "
    "https://example.org/mobile_sam.pt"
)
STATUS = {
    401: "the server asks for a login",
    403: "the server does not allow it",
    404: "there is no such file",
    407: "the proxy asks for a login; write it into $HTTPS_PROXY as http://USER:PASSWORD@HOST:PORT",
    429: "too many requests; try again later",
}


def reason(exc: Exception, url: str) -> str:
    """Describe why a request failed.

    Args:
        exc: the exception from requests.
        url: the requested address.
    """
    from requests import exceptions

    if (response := getattr(exc, "response", None)) is not None:
        return _status(response.status_code)
    causes = list(_causes(exc))
    if any("SOCKS" in str(cause) for cause in causes):
        return 'a SOCKS proxy needs a package: pip install "requests[socks]", or unset $ALL_PROXY'
    kinds: tuple[tuple[type[Exception], Callable[[list[BaseException], str], str]], ...] = (
        (exceptions.ProxyError, _proxy),
        (exceptions.InvalidProxyURL, _proxy),
        (exceptions.SSLError, _certificate),
        (exceptions.MissingSchema, _no_address),
        (exceptions.InvalidSchema, _no_address),
        (exceptions.InvalidURL, _no_address),
        (exceptions.Timeout, _no_answer),
        (exceptions.ConnectionError, _connection),
        (exceptions.ChunkedEncodingError, _cut_off),
        (exceptions.ContentDecodingError, _cut_off),
    )
    for kind, describe in kinds:
        if isinstance(exc, kind):
            return describe(causes, url)
    return f"{type(exc).__name__}: {exc}"


def without_login(url: str) -> str:
    """An address without the user name and password that it may hold."""
    try:
        address = urlsplit(url)
    except ValueError:  # no address at all; it will be refused as such
        return url
    if "@" not in address.netloc:
        return url
    return urlunsplit(address._replace(netloc=address.netloc.rpartition("@")[2]))


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from, outermost first; urllib3 keeps `reason`, too."""
    queue: list[BaseException | object] = [exc]
    visited: set[int] = set()
    while queue:
        cause = queue.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in visited:
            visited.add(id(cause))
            yield cause
            inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None))
            queue += [*inner, *cause.args]


def _status(code: int) -> str:
    text = STATUS.get(code, "the server is out of order; try again later" if code >= 500 else "")
    return f"HTTP {code}: {text}" if text else f"HTTP {code}"


def _proxy(causes: list[BaseException], _: str) -> str:
    if any("407" in str(cause) for cause in causes):
        return _status(407)
    return "no connection to the proxy; correct or unset $HTTPS_PROXY, $HTTP_PROXY or $ALL_PROXY"


def _certificate(causes: list[BaseException], _: str) -> str:
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate is not trusted: {cause.verify_message}; where a company's proxy "
                "opens connections, set $REQUESTS_CA_BUNDLE to the .pem file of its certificates"
            )
    return "no TLS connection: the server or a proxy does not speak TLS here; check the address"


def _connection(causes: list[BaseException], url: str) -> str:
    from urllib3.exceptions import NameResolutionError, ReadTimeoutError

    if any(isinstance(cause, ReadTimeoutError) for cause in causes):
        return _no_answer(causes, url)
    if any(isinstance(cause, NameResolutionError) for cause in causes):
        host = urlsplit(url).hostname
        return f"no connection: the name {host} cannot be resolved; check network and DNS"
    error_codes = {cause.errno for cause in causes if isinstance(cause, OSError)}
    if errno.ECONNREFUSED in error_codes:
        return "no connection: refused, no server answers at this address"
    if error_codes & {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}:
        return "no connection: the network cannot be reached; is this machine online?"
    return "no connection; check the network"


def _no_answer(_: list[BaseException], url: str) -> str:
    return f"no answer from {urlsplit(url).hostname} within {TIMEOUT_S} s; try again later"


def _cut_off(_: list[BaseException], __: str) -> str:
    return "the connection was cut off; try again"


def _no_address(causes: list[BaseException], url: str) -> str:
    try:
        address = urlsplit(url)
    except ValueError:
        return NO_ADDRESS
    usable = address.scheme in ("http", "https") and address.hostname
    return _proxy(causes, url) if usable else NO_ADDRESS
