"""The official checkpoint, fetched once: pinned, hashed, cached whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from mobilesam_export import progress
from mobilesam_export.checkpoint.download_faults import NO_ADDRESS, TIMEOUT_S, reason, without_login
from mobilesam_export.errors import CheckpointError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        CheckpointError: no network, the cache cannot be written, or the content is not what was
            pinned; each kind of fault in its own words, with what to do about it.
    """
    import pooch
    import requests

    folder = folder or cache_folder()
    url = os.environ.get("MOBILESAM_CHECKPOINT_URL", download.url)
    shown = without_login(url)
    help_ = f"get {download.name} by other means and set $MOBILESAM_CHECKPOINT to its path"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _quiet_pooch(), progress.bytes_bar(download.name, download.size) as bar:
            downloader = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT_S)
            path = pooch.retrieve(
                url=url,
                known_hash=f"sha256:{download.sha256}",
                fname=download.name,
                path=folder,
                downloader=downloader,
            )
    except requests.exceptions.RequestException as exc:
        raise CheckpointError(f"could not download {shown} ({reason(exc, url)}); {help_}") from exc
    except ValueError as exc:  # pooch's word for a wrong hash, and for an address without a scheme
        if "hash" not in str(exc):
            raise CheckpointError(f"could not download {shown} ({NO_ADDRESS}); {help_}") from exc
        raise CheckpointError(
            f"{shown} sent something else, such as the login page of a network: its SHA-256 is "
            f"not {download.sha256}; {help_}"
        ) from exc
    except OSError as exc:
        raise CheckpointError(f"{_local_fault(exc, folder)}; {help_}") from exc
    return Path(path)


def _local_fault(exc: OSError, folder: Path) -> str:
    """What is wrong on this machine: the cache, or the certificates that requests was given."""
    if type(exc) is OSError and exc.errno is None:  # requests, of a file of certificates
        return (
            "could not download: the file of certificates that $REQUESTS_CA_BUNDLE or "
            "$CURL_CA_BUNDLE names cannot be read; correct or unset it"
        )
    # pooch replaces the message of a PermissionError and loses its number.
    cause = exc.__cause__ if isinstance(exc.__cause__, OSError) else exc
    advice = "free some space" if cause.errno in FULL else "set $XDG_CACHE_HOME to another folder"
    return f"cannot write to the cache {folder}: {cause.strerror or cause}; {advice}"


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
