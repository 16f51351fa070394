"""The image files of a tar, read in any order from where they lie; nothing is unpacked, so its names cannot do harm."""

import os
import posixpath
import tarfile
import weakref
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Int64

from cwf_jax.errors import InputError, printable

_COMPRESSED = {
  b"\x1f\x8b": ("gzip", "gunzip -k"),
  b"BZh": ("bzip2", "bunzip2 -k"),
  b"\xfd7zXZ\x00": ("xz", "unxz -k"),
  b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
  b"PK\x03\x04": ("zip", "unzip"),
  b"7z\xbc\xaf\x27\x1c": ("7-Zip", "7z x"),
}
"""What a compressed file begins with, its kind, and the command that unpacks it."""


class TarError(InputError):
  """A file that is not a whole, uncompressed tar."""


class TarListing(NamedTuple):
  """What a tar holds.

  Attributes:
    names: of its image files, each once: the last of several members of one name counts, as it does when one unpacks.
    folders: those that have a member of their own.
    skipped: (name, reason) of members that end like images and cannot be read.
    reader: gives the contents of a file by its place in `names`, from any thread.
  """

  names: list[str]
  folders: list[str]
  skipped: list[tuple[str, str]]
  reader: Callable[[int], bytes]


def list_tar(path: Path, extensions: Collection[str]) -> TarListing:
  """Reads the headers of all members once.

  Args:
    path: of the tar.
    extensions: lower-case endings of the files that are images.

  Raises:
    TarError: it is compressed, not a tar, damaged or truncated.
    OSError: it cannot be read.
  """
  places: dict[str, tuple[int, int]] = {}
  folders, skipped = [], []
  with path.open("rb") as file:
    _refuse_compressed(path, file.read(8))
    file.seek(0)
    for member in _walk(path, file):
      parts = [part for part in member.name.split("/") if part not in ("", ".")]
      name = "/".join(parts)
      is_image = not member.isdir() and posixpath.splitext(name)[1].lower() in extensions
      if not (is_image or member.isdir()) or any(part.startswith(".") and part != ".." for part in parts):
        continue
      reason = _refuse(member, parts)
      if reason and is_image:
        skipped.append((printable(name), reason))
      elif not reason and is_image:
        places[name] = member.offset_data, member.size
      elif not reason and name:
        folders.append(name)
    reader = _Reader(os.dup(file.fileno()), np.array(list(places.values()), np.int64).reshape(-1, 2))
  return TarListing(list(places), folders, sorted(skipped), reader)


class _Reader:
  """Reads files of a tar through one descriptor, which is closed with it; reading at an offset needs no lock."""

  def __init__(self, descriptor: int, places: Int64[np.ndarray, "n 2"]):
    """`places` are the offset and size of each file."""
    self._descriptor, self._places = descriptor, places
    weakref.finalize(self, os.close, descriptor)

  def __call__(self, row: int) -> bytes:
    offset, size = map(int, self._places[row])
    content = os.pread(self._descriptor, size, offset)
    if len(content) != size:
      raise OSError(f"{len(content)} of {size} bytes are there")
    return content


def _refuse(member: tarfile.TarInfo, parts: list[str]) -> str | None:
  """Why a member is left out."""
  if ".." in parts:
    return "its name holds '..'"
  try:
    member.name.encode()
  except UnicodeEncodeError:
    return "the name is not UTF-8"
  if member.issym() or member.islnk():
    return "a link inside a tar"
  if member.issparse():
    return "a sparse file inside a tar"
  return None if member.isdir() or member.isreg() else "not a regular file"


def _refuse_compressed(path: Path, start: bytes) -> None:
  for signature, (kind, command) in _COMPRESSED.items():
    if start.startswith(signature):
      raise TarError(
        f"{printable(path)} is compressed ({kind}), so its images cannot be read in any order; "
        f"unpack it first ({command} {printable(path.name)}) and name what comes out"
      )


def _walk(path: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
  """The members, one at a time; a tar that was cut off is refused, which tarfile does only where a file is cut."""
  damaged = f"the tar {printable(path)} is truncated or damaged"
  length = os.fstat(file.fileno()).st_size
  try:
    tar = tarfile.open(fileobj=file, mode="r:", encoding="utf-8")  # noqa: SIM115 - it holds nothing but `file`
  except tarfile.TarError:
    raise TarError(f"{printable(path)} is neither a folder of class folders nor a tar of them") from None
  try:
    while (member := tar.next()) is not None:
      tar.members = []  # it would keep all of them
      if member.size < 0 or (member.isreg() and not member.issparse() and member.offset_data + member.size > length):
        raise TarError(f"{damaged}: {printable(member.name)} reaches beyond its end; copy it again")
      yield member
  except tarfile.TarError as error:
    raise TarError(f"{damaged} ({error}); copy it again") from None
  file.seek(tar.offset)
  if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
    raise TarError(f"{damaged}: there is neither a file nor an end mark at byte {tar.offset}; copy it again")
