"""The official checkpoint: a pinned URL, checked by SHA-256 and cached after the first download."""

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
    """Folder of cached downloads; follows `$XDG_CACHE_HOME` and its equivalents."""
    return Path(platformdirs.user_cache_dir("mobilesam-export"))


def fetch(download: Download, folder: Path | None = None) -> Path:
    """Return the cached file, downloading it first if it is missing or incomplete.

    `$MOBILESAM_CHECKPOINT_URL` names a mirror; the hash stays the same. The download goes to a
    temporary file beside the cached one and is renamed once its hash is right, so a broken
    download is never mistaken for the file. Processes do not wait for each other: of two
    concurrent downloads both succeed, and the later one replaces the file.

    Raises:
        CheckpointError: no network, the cache cannot be written, or the content does not have
            the pinned hash; each message says what to do about it.
    """
    import pooch
    import requests

    folder = folder or cache_folder()
    url = os.environ.get("MOBILESAM_CHECKPOINT_URL", download.url)
    public_url = without_login(url)
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
        raise CheckpointError(
            f"could not download {public_url} ({reason(exc, url)}); {help_}"
        ) from exc
    except ValueError as exc:  # pooch's word for a wrong hash, and for an address without a scheme
        if "hash" not in str(exc):
            raise CheckpointError(
                f"could not download {public_url} ({NO_ADDRESS}); {help_}"
            ) from exc
        raise CheckpointError(
            f"{public_url} sent something else, such as the login page of a network: its SHA-256 "
            f"is not {download.sha256}; {help_}"
        ) from exc
    except OSError as exc:
        raise CheckpointError(f"{_local_fault(exc, folder)}; {help_}") from exc
    return Path(path)


def _local_fault(exc: OSError, folder: Path) -> str:
    """Describe a local fault: of the cache, or of the certificates that requests was given."""
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
    """Silence pooch's logger, which would repeat the progress bar."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
