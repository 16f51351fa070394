"""Downloads a file. An interrupted download resumes, in the same call or in a later one.

    download("https://example.org/weights.h5", Path("weights.h5"))

Beside the file lies "weights.h5.json": how many bytes the server has, and the validator (ETag or Last-Modified) by which it
recognizes its file. Where the file has changed since, or the server sends no validator, the download starts over.
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from cwf_jax.conversion.files import ConversionError
from cwf_jax.errors import printable, reason_of
from cwf_jax.files import write_whole
from cwf_jax.version import __version__

TIMEOUT = 60.0
"""Seconds that a server may be silent."""

RETRIES, PAUSE = 5, 2.0
"""Reconnections within one call, and the seconds before each."""

LARGEST = 2**32
"""The most bytes accepted from a source of unknown size."""

_BLOCK = 2**20

Progress = Callable[[int, int], None]
"""Called with the bytes received and the total, as far as it is known."""


class FetchError(OSError):
  """A download that failed, or that sent something other than what was expected."""


class _InterruptedError(Exception):
  """A connection ended early; what arrived is in the file."""


class _RemoteFile(NamedTuple):
  """What a server said of its file; None where it did not say."""

  validator: str | None = None
  bytes: int | None = None


def split_address(source: str) -> urllib.parse.SplitResult | None:
  """Splits an address of http, https or file; None for a path.

  Raises:
    ConversionError: it is an address of another kind, or none that can be read.
  """
  if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
    return None
  try:
    parts = urllib.parse.urlsplit(source)
  except ValueError as error:
    raise ConversionError(f"{printable(source)} is no address: {error}") from None
  if parts.scheme not in ("http", "https") and (parts.scheme != "file" or parts.netloc not in ("", "localhost")):
    raise ConversionError(f"a source is a file or an address of http, https or file; found {printable(source)}")
  return parts


def download(address: str, target: Path, size: int | None = None, progress: Progress = lambda done, total: None) -> None:
  """Downloads a file, or resumes one that an earlier call began.

  Args:
    address: http or https; of a file on Google Drive the page of the file.
    target: where it goes. The part that arrived stays there when the download fails or is interrupted.
    size: the bytes that it must have, if that is known.
    progress: called for each block.

  Raises:
    FetchError: no network, no such file, a connection that breaks off again and again, or another size than expected.
    OSError: the disk is full.
  """
  if urllib.parse.urlsplit(address).hostname == "drive.google.com":
    return _download_from_drive(address, target, progress)
  for retries in reversed(range(RETRIES + 1)):
    before = _count_bytes(target)
    try:
      return _continue(address, target, size, progress)
    except _InterruptedError as error:
      if not retries or _count_bytes(target) <= before:
        raise FetchError(f"{printable(address)} {error}{_say_resumable(target)}") from None
      time.sleep(PAUSE)


def _continue(address: str, target: Path, size: int | None, progress: Progress) -> None:
  """Makes one connection and writes what it sends behind what is there."""
  shown, state, done = printable(address), _read_state(target), _count_bytes(target)
  if done and done == state.bytes:  # an earlier call had all of it
    return progress(done, done)
  done = done if state.validator else 0
  try:
    response = _open(address, {"Range": f"bytes={done}-", "If-Range": state.validator} if done else {})
  except urllib.error.HTTPError as error:
    error.close()
    if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and done:  # the file is shorter now
      target.unlink()
      return _continue(address, target, size, progress)
    rest = _say_resumable(target)
    raise FetchError(f"{shown} cannot be fetched: the server says {error.code} {error.reason}{rest}") from None
  except (OSError, ValueError, http.client.HTTPException) as error:
    reason = _reason(getattr(error, "reason", error))
    raise FetchError(f"{shown} cannot be reached: {reason}{_say_resumable(target)}") from None
  with response:
    start, published = _read_headers(response)
    if done and start and (start, published) != (done, state):  # the file is another now
      target.unlink()
      return _continue(address, target, size, progress)
    if start > done:
      raise FetchError(f"{shown} cannot be fetched: the server sends a part of the file")
    total = size if published.bytes is None else published.bytes
    if size not in (None, total):
      raise FetchError(f"{shown} has {total} bytes, expected {size}: it is another file")
    with target.open("ab" if start else "wb") as file:
      _write_state(target, published)
      done = start
      progress(done, total or done)
      while block := _read(response, done):
        file.write(block)
        done += len(block)
        progress(done, total or done)
        if done > (total or LARGEST):
          target.unlink()
          raise FetchError(f"{shown} sends more than the {total or LARGEST} bytes that were expected")
  if total and done < total:
    raise _InterruptedError(f"ended after {done} of {total} bytes")
  _write_state(target, published._replace(bytes=done))


class _NoFTP(urllib.request.FTPHandler):
  """In place of the handler that follows a redirection to an FTP server."""

  def ftp_open(self, req: urllib.request.Request) -> None:
    raise urllib.error.URLError("it redirects to an FTP server")


def _open(address: str, headers: dict[str, str]) -> http.client.HTTPResponse:
  headers |= {"User-Agent": f"cwf_jax/{__version__}", "Accept-Encoding": "identity"}
  return urllib.request.build_opener(_NoFTP).open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT)


def _read_headers(response: http.client.HTTPResponse) -> tuple[int, _RemoteFile]:
  """Reads the byte of the file at which a response starts, and what the server says of the file."""
  tag, length = response.headers.get("ETag", ""), response.headers.get("Content-Length", "")
  validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")  # a weak tag promises no equal bytes
  if response.status != HTTPStatus.PARTIAL_CONTENT:
    return 0, _RemoteFile(validator, int(length) if length.isdecimal() else None)
  found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
  return (int(found[1]), _RemoteFile(validator, int(found[2]))) if found else (LARGEST, _RemoteFile())


def _read(response: http.client.HTTPResponse, done: int) -> bytes:
  try:
    return response.read1(_BLOCK)
  except (OSError, http.client.HTTPException) as error:
    raise _InterruptedError(f"was interrupted after {done} bytes: {_reason(error)}") from None


def _count_bytes(target: Path) -> int:
  return target.stat().st_size if target.exists() else 0


def _say_resumable(target: Path) -> str:
  """The end of a message, where a part has arrived: whether the next call goes on from there."""
  if not _count_bytes(target):
    return ""
  resumes = "what was downloaded stays; the same command resumes"
  return f"; {resumes if _read_state(target).validator else 'call again to start over'}"


def _read_state(target: Path) -> _RemoteFile:
  try:
    return _RemoteFile(**json.loads(target.with_name(f"{target.name}.json").read_bytes()))
  except (OSError, ValueError, TypeError):  # there is none, or it is damaged: the download starts over
    return _RemoteFile()


def _write_state(target: Path, published: _RemoteFile) -> None:
  write_whole(target.with_name(f"{target.name}.json"), json.dumps(published._asdict()).encode())


def _reason(error: object) -> str:
  if isinstance(error, TimeoutError):
    return f"no answer within {TIMEOUT:.0f} seconds"
  return (reason_of(error) if isinstance(error, Exception) else str(error)) or type(error).__name__


def _download_from_drive(address: str, target: Path, progress: Progress) -> None:
  """As `download`, by the package gdown, which answers what Google asks before it sends a large file."""
  by_hand = "or download it in a browser and name the file: --source=FILE"
  try:
    import gdown
  except ImportError:
    raise FetchError(f"{address} is on Google Drive: pip install 'cwf_jax[gdown]', {by_hand}") from None
  options = {"quiet": True, "use_cookies": False, "resume": True, "retries": RETRIES, "timeout": TIMEOUT}
  try:
    gdown.download(address, os.fspath(target), progress=lambda done, total: progress(done, total or done), **options)
  except Exception as error:  # of gdown, requests and urllib3
    if isinstance(error, OSError) and error.errno is not None:  # of the disk
      raise
    text = " ".join(str(error).split()) or type(error).__name__
    again = f"remove {printable(target.parent)} to begin again"
    raise FetchError(f"{address} cannot be fetched from Google Drive: {text}; {again}, {by_hand}") from None
