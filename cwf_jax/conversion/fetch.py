"""Published weights by name: downloaded, verified and converted into `$CWF_JAX_HOME/NAME`, where `--weights=NAME` finds them.

    fetch("mobilenet_v2", sha256="...")
    load_weights("mobilenet_v2")

What is downloaded goes into a temporary folder beside the checkpoint and is read only when its size and its sha256 are right.
"""

import dataclasses
import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cwf_jax.conversion import files
from cwf_jax.conversion.convert import Converted, convert
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.manifest import Entry, check_sha256, read_manifest
from cwf_jax.conversion.tables import AUTO
from cwf_jax.errors import printable, reason_of
from cwf_jax.models.checkpoint import load_checkpoint, search_folders
from cwf_jax.version import __version__

TIMEOUT = 60.0
"""Seconds that a server may be silent."""

LARGEST = 2**32
"""Bytes that are taken from a source whose size is not known."""

_BLOCK = 2**20
_HANDLERS = (
  urllib.request.ProxyHandler,
  urllib.request.HTTPHandler,
  urllib.request.HTTPSHandler,
  urllib.request.HTTPRedirectHandler,
  urllib.request.HTTPDefaultErrorHandler,
  urllib.request.HTTPErrorProcessor,
  urllib.request.UnknownHandler,
)
_MIRROR = "another address, or a file that you downloaded, goes in with --source=URL_OR_FILE"


class FetchError(OSError):
  """A download that failed, or sent something else than was asked for; nothing of it is kept."""


def fetch(
  name: str,
  home: str | os.PathLike | None = None,
  *,
  source: str | None = None,
  sha256: str | None = None,
  progress: Callable[[int, int], None] | None = None,
  manifest: Mapping[str, Entry] | None = None,
) -> Converted:
  """Fetches weights, unless they are there already.

  Args:
    name: of the manifest.
    home: where the checkpoint's folder goes; default: `$CWF_JAX_HOME`, or the user's cache folder.
    source: another address (http, https, file) or the path of a file.
    sha256: of the file, where the manifest has none: it is trusted on your word.
    progress: told of the bytes that are here and of all, as far as that is known.
    manifest: default: the package's own.

  Raises:
    ConversionError: the name is not known, there is no sha256 to verify by, the checkpoint's folder holds other weights,
      or the file is not what it should be.
    FetchError: no network, no such file, a broken connection, another size or another sha256 than expected.
    OSError: the disk is full.
  """
  entries = read_manifest() if manifest is None else manifest
  if name not in entries:
    raise ConversionError(f"no weights to fetch are named {name!r}; there are: {', '.join(entries) or 'none'}")
  home = search_folders()[-1] if home is None else Path(home).expanduser().absolute()
  folder = home / name
  if os.path.lexists(folder):
    return _find_fetched(folder, entries[name].sha256 or (None if sha256 is None else check_sha256(sha256)))
  entry = _complete(entries[name], source or None, sha256)
  home.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=".tmp", dir=home) as temporary:
    path = Path(temporary) / _file_name(entry.source)
    _download(entry, path, progress or (lambda done, total: None))
    try:
      return convert(path, entry.network, folder, entry.layout, _describe_origin(entry))
    except ConversionError as error:  # of a file that is gone when it is told
      raise ConversionError(str(error).replace(printable(path), printable(entry.source))) from None


def _complete(entry: Entry, source: str | None, sha256: str | None) -> Entry:
  """The entry with what the caller says; what it says of size and layout holds for its own file alone."""
  given = None if sha256 is None else check_sha256(sha256)
  known = None if entry.sha256 is None else entry.sha256.lower()
  if known is None and given is None:
    raise ConversionError(
      f"no sha256 of {entry.name} is known to this version, so a download cannot be verified. If you trust the source, "
      f"download {entry.source}, compute its sha256 (sha256sum FILE; on a Mac shasum -a 256 FILE; on Windows certutil "
      "-hashfile FILE SHA256) and give it with --sha256=HEX"
    )
  if known and given and known != given:
    raise ConversionError(f"the sha256 of {entry.name} is {known}, not {given}; another file is taken by --mode=convert")
  _split(entry.source if source is None else source)
  if source is not None and known is None:
    entry = dataclasses.replace(entry, layout=AUTO, bytes=None)
  return dataclasses.replace(entry, source=source or entry.source, sha256=known or given)


def _find_fetched(folder: Path, sha256: str | None) -> Converted:
  """The checkpoint that is there; where a sha256 is known, it must have been made from that file."""
  loaded = load_checkpoint(folder)
  found = loaded.metadata.get("source_sha256")
  if sha256 is not None and found != sha256.lower():
    raise ConversionError(
      f"{printable(folder)} is there already and was made from another file (its sha256 is {found}, not {sha256}): "
      "remove it, or set another CWF_JAX_HOME"
    )
  return Converted(str(folder), loaded.network_name, loaded.metadata["layout"], found, ("it was there already",))


def _download(entry: Entry, target: Path, progress: Callable[[int, int], None]) -> None:
  """Writes the source into a new file, or raises `FetchError`."""
  shown = printable(entry.source)
  with _open(entry.source) as stream:
    total = _told_size(stream)
    if None not in (total, entry.bytes) and total != entry.bytes:
      raise FetchError(f"{shown} has {total} bytes, expected {entry.bytes}: it is another file. {_MIRROR}")
    size = entry.bytes if total is None else total
    done, digest = 0, hashlib.sha256()
    with target.open("xb") as file:
      while block := _read(stream, shown):
        done += len(block)
        if done > (size or LARGEST):
          raise FetchError(f"{shown} sends more than the {size or LARGEST} bytes that were expected")
        file.write(block)
        digest.update(block)
        progress(done, size or done)
  if size is not None and done < size:
    raise FetchError(f"{shown} ended after {done} of {size} bytes; fetch it again")
  if digest.hexdigest() != entry.sha256:
    raise FetchError(
      f"the sha256 of what {shown} sent is {digest.hexdigest()}, expected {entry.sha256}: it is another file, or a damaged one"
    )


def _open(source: str) -> BinaryIO:
  """A stream of the source's bytes."""
  parts = _split(source)
  if parts is None or parts.scheme == "file":
    return open(files.find_kind(source if parts is None else urllib.request.url2pathname(parts.path))[0], "rb")
  opener = urllib.request.OpenerDirector()  # not the usual one, which opens addresses of other kinds too
  for handler in _HANDLERS:
    opener.add_handler(handler())
  shown = printable(source)
  try:
    return opener.open(urllib.request.Request(source, headers={"User-Agent": f"cwf_jax/{__version__}"}), timeout=TIMEOUT)
  except urllib.error.HTTPError as error:
    error.close()
    raise FetchError(f"{shown} cannot be fetched: the server says {error.code} {error.reason}; {_MIRROR}") from None
  except urllib.error.URLError as error:
    raise FetchError(f"{shown} cannot be reached: {_reason(error.reason)}; {_MIRROR}") from None
  except (OSError, ValueError, http.client.HTTPException) as error:
    raise FetchError(f"{shown} cannot be reached: {_reason(error)}; {_MIRROR}") from None


def _read(stream: BinaryIO, shown: str) -> bytes:
  try:
    return stream.read(_BLOCK)
  except (OSError, http.client.HTTPException) as error:
    raise FetchError(f"{shown} was interrupted: {_reason(error)}; fetch it again") from None


def _told_size(stream: BinaryIO) -> int | None:
  if not hasattr(stream, "headers"):
    return os.fstat(stream.fileno()).st_size
  told = stream.headers.get("Content-Length") or ""
  return int(told) if told.isdecimal() else None


def _split(source: str) -> urllib.parse.SplitResult | None:
  """The parts of an address; None of a path."""
  if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
    return None
  try:
    parts = urllib.parse.urlsplit(source)
  except ValueError as error:
    raise ConversionError(f"{printable(source)} is no address: {error}") from None
  if parts.scheme not in ("http", "https") and (parts.scheme != "file" or parts.netloc not in ("", "localhost")):
    raise ConversionError(f"a source is a file or an address of http, https or file; found {printable(source)}")
  return parts


def _file_name(source: str) -> str:
  """What the source's last part makes as a file's name."""
  parts = _split(source)
  path = urllib.parse.unquote(parts.path) if parts else Path(source).as_posix()
  return re.sub(r"[^\w.-]", "_", PurePosixPath(path).name)[-100:].lstrip(".") or "weights"


def _describe_origin(entry: Entry) -> dict[str, str]:
  """What the checkpoint notes; of an address neither user, password nor query, of a file no folder."""
  origin = {"published_as": entry.name, "licence": entry.licence}
  parts = _split(entry.source)
  if parts and parts.scheme != "file":
    origin["address"] = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
  return origin


def _reason(error: object) -> str:
  if isinstance(error, TimeoutError):
    return f"no answer within {TIMEOUT:.0f} seconds"
  return (reason_of(error) if isinstance(error, Exception) else str(error)) or type(error).__name__
