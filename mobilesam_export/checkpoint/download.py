"""The official checkpoint, fetched once: pinned, hashed, cached whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from mobilesam_export import progress
from mobilesam_export.errors import CheckpointError


@dataclass(frozen=True)
class Download:
    """A file at a fixed address with known content."""

    url: str
    name: str
    size: int  # bytes
    sha256: str


# The file as of the last commit that changed it; hash also in executorch's MobileSAM example.
OFFICIAL = Download(
    url="https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
    "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
    name="mobile_sam.pt",
    size=40_728_226,
    sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
)


def cache_folder() -> Path:
    """Where downloads are kept; `$XDG_CACHE_HOME` and its like are honoured."""
    return Path(platformdirs.user_cache_dir("mobilesam-export"))


def fetch(download: Download, folder: Path | None = None) -> Path:
    """Return the cached file, downloading it first if it is not there or not whole.

    `$MOBILESAM_CHECKPOINT_URL` names a mirror; the hash stays the same. The download goes to a
    temporary file beside the cached one and is renamed once its hash is right, so a broken
    download is never taken for the file. Only one process downloads at a time for itself: two
    at once both succeed, and the later one wins.

    Raises:
        CheckpointError: no network, or the content is not what was pinned.
    """
    import pooch
    import requests

    folder = folder or cache_folder()
    url = os.environ.get("MOBILESAM_CHECKPOINT_URL", download.url)
    help_ = f"get {download.name} by other means and set $MOBILESAM_CHECKPOINT to its path"
    try:
        with _quiet_pooch(), progress.bytes_bar(download.name, download.size) as bar:
            # A server that stops answering is an error after 30 s, not a hang.
            downloader = pooch.HTTPDownloader(progressbar=bar, timeout=30)
            path = pooch.retrieve(
                url=url,
                known_hash=f"sha256:{download.sha256}",
                fname=download.name,
                path=folder,
                downloader=downloader,
            )
    except requests.exceptions.RequestException as exc:
        raise CheckpointError(f"could not download {url} ({_reason(exc)}); {help_}") from exc
    except ValueError as exc:  # pooch's word for a wrong hash
        raise CheckpointError(
            f"{url} sent something else: its SHA-256 is not {download.sha256}; {help_}"
        ) from exc
    except OSError as exc:
        raise CheckpointError(f"cannot write to {folder}: {exc.strerror or exc}; {help_}") from exc
    return Path(path)


def _reason(exc: Exception) -> str:
    from requests import exceptions

    if (response := getattr(exc, "response", None)) is not None:
        return f"HTTP {response.status_code}"
    words: dict[type[Exception], str] = {
        exceptions.Timeout: "no answer",
        exceptions.ChunkedEncodingError: "cut off",
        exceptions.ConnectionError: "no connection",
    }
    return next((text for kind, text in words.items() if isinstance(exc, kind)), str(exc))


@contextlib.contextmanager
def _quiet_pooch() -> Iterator[None]:
    """The progress bar says what pooch's logger would repeat."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
