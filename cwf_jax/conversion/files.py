"""Opening a file of weights that somebody else made: named for what it is, read as HDF5 alone, and nothing in it is run.

A file may hold anything. Only plain numbers that lie in the file itself are read, after their shape and type were checked:
no link is followed, to other files or within this one, and no filter is loaded from elsewhere.
"""

import contextlib
import hashlib
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from cwf_jax.errors import InputError, printable, reason_of

MOST_OBJECTS = 20_000
"""Groups and data sets that a file may hold: no network comes near it, and a loop of links does."""

LARGEST_CHUNK, LARGEST_ATTRIBUTE = 2**26, 2**22
"""Bytes of a data set that HDF5 reads at a time, and of an attribute."""

FROM_PYTHON = "other weights come in from Python: build the network and write it with cwf_jax.models.checkpoint.save_checkpoint"
"""What can be done with a file that is not read."""

_OWN = "checkpoint.json"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}

_FIRST_BYTES = (
  (0, b"\x80", "a pickle (PyTorch's, or Python's), which can run a program when it is read, so it is not"),
  (0, b"\x1f\x8b", "gzip; unpack it first"),
  (0, b"\x93NUMPY", "an array of NumPy"),
  (0, b"version https://git-lfs", "a pointer of git-lfs, not the file itself; git lfs pull fetches that"),
  (0, b"<", "a page of HTML or XML, perhaps what a server said instead of sending the file"),
  (0, b"{", "JSON"),
  (4, b"TFL3", "a model of TensorFlow Lite"),
  (8, b"{", "safetensors"),
  (0, b"MATLAB 5.0", "a MATLAB file"),
  (257, b"ustar", "a tar archive; unpack it first"),
)
"""Where the first bytes of what is no HDF5 tell what it is."""


class ConversionError(InputError):
  """A foreign file cannot become a checkpoint; the message lists everything that is wrong with it."""


def hash_file(path: str | os.PathLike) -> str:
  """The sha256 of a file's bytes, in hex."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def open_hdf5(source: str | os.PathLike) -> Iterator[h5py.File]:
  """Opens an HDF5 file for reading.

  Args:
    source: its path; anything may lie there.

  Raises:
    ConversionError: it is something else (named), or damaged, be it noticed now or while it is read.
  """
  path = check_file(source)
  try:
    with h5py.File(path, "r") as file:
      yield file
  except ConversionError:
    raise
  except Exception as error:  # a damaged file fails in as many ways as HDF5 has parts
    raise ConversionError(f"{printable(path)} {_tell_damage(error, path)}") from error


def check_file(source: str | os.PathLike) -> Path:
  """The path of a file that begins as HDF5 does.

  Raises:
    ConversionError: it cannot be read, or is something else; the message names what.
  """
  path = Path(source).expanduser()
  try:
    content = _name_content(path)
  except FileNotFoundError:
    raise ConversionError(f"there is no file {printable(path)}") from None
  except (OSError, ValueError) as error:  # a zero byte in a name is a ValueError
    raise ConversionError(f"{printable(path)} cannot be read: {reason_of(error)}") from None
  if content:
    raise ConversionError(f"{printable(path)} is {content}")
  return path


def _name_content(path: Path) -> str:
  """What else than HDF5 lies at a path; nothing if it is HDF5."""
  status = path.stat()
  if stat.S_ISDIR(status.st_mode):
    if (path / _OWN).is_file():
      return f"a checkpoint of cwf_jax already: --weights={printable(path)} takes it as it is"
    return "a folder; weights are converted from a file (HDF5, as Keras writes it)"
  if not stat.S_ISREG(status.st_mode):
    return "a device or a pipe; copy it into a file first"
  with path.open("rb") as file:
    start = file.read(512)
  return "" if start.startswith(_HDF5) else f"{_name_bytes(path, start)}. HDF5 is read, as Keras writes it; {FROM_PYTHON}"


def _name_bytes(path: Path, start: bytes) -> str:
  if not start:
    return "empty"
  if start.startswith(b"PK"):
    return _name_archive(path)
  if _is_caffe(start):
    return "a Caffe model"
  for place, magic, name in _FIRST_BYTES:
    if start[place:].startswith(magic):
      return name
  if _HDF5.startswith(start[: len(_HDF5)]):
    return f"cut off after {len(start)} bytes"
  return f"of an unknown kind (its first bytes are {start[:8].hex(' ')})"


def _is_caffe(start: bytes) -> bool:
  """Whether a file begins as Caffe's NetParameter: field 1 with the network's name, then a field of layers (2 or 100)."""
  if not start.startswith(b"\n"):
    return False
  end = 2 + start[1] if len(start) > 1 else 0
  return start[2:end].isascii() and start[end:].startswith((b"\x12", b"\xa2\x06"))


def _name_archive(path: Path) -> str:
  """A zip archive by the names in it; nothing is unpacked."""
  try:
    with zipfile.ZipFile(path) as archive:
      names = [name for name in archive.namelist() if not name.endswith("/")]
  except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
    return "a damaged zip archive"
  if "model.weights.h5" in names:
    return "a model of Keras 3 (.keras), an archive; unpack model.weights.h5 from it and convert that"
  if any(name.endswith("data.pkl") for name in names):
    return "a PyTorch model: an archive with a pickle in it, which can run a program when it is read, so it is not"
  if names and all(name.endswith(".npy") for name in names):
    return "an archive of NumPy (.npz)"
  return "a zip archive"


def _tell_damage(error: Exception, path: Path) -> str:
  text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
  cut = re.search(r"truncated file: .*stored_eof = (\d+)", text)
  if cut:
    return f"is cut off: {path.stat().st_size} bytes are here of {cut[1]}; download or copy it again"
  return f"cannot be read, it is damaged: {text}"


def open_child(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
  """What lies at a path under a group; None if nothing does.

  Raises:
    ConversionError: a step of the path is a link to another file or place, or it ends in neither group nor data set.
  """
  found = group
  for name in path.split("/"):
    if not isinstance(found, h5py.Group) or not name or name == ".":
      return None
    links, key = found.id.links, name.encode("utf-8", "surrogateescape")
    if not links.exists(key):
      return None
    where = printable(f"{found.name.rstrip('/')}/{name}")
    if links.get_info(key).type != h5py.h5l.TYPE_HARD:  # asked before it is opened: opening follows the link
      raise ConversionError(f"{where} in {printable(group.file.filename)} is a link; only what lies in its place is read")
    found = found[name]
    if not isinstance(found, h5py.Group | h5py.Dataset):
      raise ConversionError(f"{where} in {printable(group.file.filename)} is neither a group nor a data set")
  return found


def list_datasets(root: h5py.Group) -> dict[str, h5py.Dataset]:
  """Every data set under a group, by its path.

  Raises:
    ConversionError: there are more than `MOST_OBJECTS` groups and data sets, or a loop.
  """
  found: dict[str, h5py.Dataset] = {}
  pending, opened = [("", root)], 0
  while pending:
    prefix, group = pending.pop()
    for name in group:
      opened += 1
      if opened > MOST_OBJECTS:
        raise ConversionError(f"{printable(root.file.filename)} holds more than {MOST_OBJECTS} groups and data sets, or a loop")
      one = open_child(group, name)
      if isinstance(one, h5py.Group):
        pending.append((f"{prefix}{name}/", one))
      elif one is not None:
        found[prefix + name] = one
  return found


def read_texts(group: h5py.Group, name: str) -> list[str] | None:
  """An attribute that is a text or a list of texts; None where there is none, or it is something else.

  A list too long for one attribute lies in several, NAME0, NAME1 and so on, as Keras writes it.
  """
  if name in group.attrs:
    return _read_attribute(group, name)
  parts: list[str] = []
  for number in range(MOST_OBJECTS):
    if f"{name}{number}" not in group.attrs:
      break
    parts += _read_attribute(group, f"{name}{number}") or []
  return parts or None


def _read_attribute(group: h5py.Group, name: str) -> list[str] | None:
  attribute = group.attrs.get_id(name)
  count = math.prod(attribute.shape)
  if count == 0:
    return []  # of numbers in old files: NumPy's empty list
  if h5py.check_string_dtype(attribute.dtype) is None or count * attribute.dtype.itemsize > LARGEST_ATTRIBUTE:
    return None
  values = np.asarray(group.attrs[name]).ravel().tolist()
  return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def find_problem(dataset: h5py.Dataset, shape: tuple[int, ...]) -> str | None:
  """Why a data set is not read as an array of this shape; nothing of its values is touched."""
  if dataset.shape != shape:
    return f"is {dataset.shape if dataset.shape is not None else 'empty'}, expected {shape}"
  if dataset.external or dataset.is_virtual:
    return "has its values in another file, expected in this one"
  if dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (2, 4, 8):
    return f"holds {dataset.dtype}, expected floating-point numbers of 16, 32 or 64 bits"
  settings = dataset.id.get_create_plist()
  filters = [settings.get_filter(place)[0] for place in range(settings.get_nfilters())]
  unknown = [number for number in filters if number not in _FILTERS]
  if unknown:
    return f"is packed by the filter {unknown[0]} of HDF5, expected {', '.join(_FILTERS.values())} or none"
  if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > LARGEST_CHUNK:
    return f"is cut into pieces of {dataset.chunks}, too large for its {shape}"
  return None
