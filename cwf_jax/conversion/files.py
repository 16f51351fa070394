"""Which kind of file a file of weights is, and safe reading of HDF5. Nothing in a file is run.

A file may hold anything. Only plain numbers that lie in the file itself are read, after their shape and type were checked:
no link of HDF5 is followed, to other files or within this one, and no filter is loaded from elsewhere.
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
from typing import BinaryIO

import h5py
import numpy as np

from cwf_jax.errors import InputError, brief, printable, reason_of

MOST_OBJECTS = 20_000
"""Groups and data sets that a file may hold: no network comes near it, and a loop of links does."""

LARGEST_CHUNK, LARGEST_ATTRIBUTE = 2**26, 2**22
"""Bytes of a data set that HDF5 reads at a time, and of an attribute."""

HDF5, KERAS_ZIP, TORCH, SAFETENSORS, NPZ, CAFFE = KINDS = ("HDF5", ".keras", "PyTorch", "safetensors", "npz", "Caffe")
"""The kinds of files that are read."""

FROM_PYTHON = "other weights come in from Python: build the network and write it with cwf_jax.models.checkpoint.save_checkpoint"
"""What can be done with a file that is not read."""

KERAS_MEMBER = "model.weights.h5"
"""The file inside a .keras archive that holds the weights."""

_OWN = "checkpoint.json"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""A pickle of the number that the first format of PyTorch begins with."""

_LARGEST_USER_BLOCK = 2**22
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}

_FIRST_BYTES = (
  (0, b"\x80", "a pickle that PyTorch's save did not write; it can run a program when it is read, so it is not"),
  (0, b"\x1f\x8b", "gzip; unpack it first"),
  (0, b"\x93NUMPY", "an array of NumPy"),
  (0, b"version https://git-lfs", "a pointer of git-lfs, not the file itself; git lfs pull fetches that"),
  (0, b"<", "an HTML or XML page, perhaps a server's error"),
  (0, b"{", "JSON"),
  (4, b"TFL3", "a model of TensorFlow Lite"),
  (0, b"MATLAB 5.0", "a MATLAB file"),
  (257, b"ustar", "a tar archive; unpack it first"),
)
"""The first bytes of kinds that are not read, by their offset."""


_EXPORT = "export Keras's .weights.h5 or a state dict"
_ENDINGS = {
  r"\.onnx$": f"a model of ONNX; {_EXPORT}",
  r"\.pb$": f"a graph of TensorFlow; {_EXPORT}",
  r"\.ckpt|\.index$|\.data-\d+-of-\d+$": f"a part of a checkpoint of TensorFlow; {_EXPORT}",
}
"""Kinds that are not read, by a pattern of their names, where the first bytes are of no kind that is."""


class ConversionError(InputError):
  """A foreign file cannot become a checkpoint; the message lists everything that is wrong with it."""


def hash_file(path: str | os.PathLike) -> str:
  """The sha256 of a file's bytes, in hex."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def open_hdf5(path: Path, content: BinaryIO | None = None) -> Iterator[h5py.File]:
  """Opens an HDF5 file for reading.

  Args:
    path: of the file, for messages too.
    content: the HDF5 where it lies inside the file at `path`; default: the file itself.

  Raises:
    ConversionError: it is damaged, which may show at once or while it is read.
  """
  try:
    with h5py.File(content or path, "r") as file:
      yield file
  except ConversionError:
    raise
  except Exception as error:  # a damaged file fails in as many ways as HDF5 has parts
    raise ConversionError(f"{printable(path)} {_describe_damage(error, path)}") from error


def find_kind(source: str | os.PathLike) -> tuple[Path, str]:
  """The path of a file and which of `KINDS` it is, by its first bytes and the names in an archive.

  Raises:
    ConversionError: it cannot be read, or is something else; the message names what.
  """
  path = Path(source).expanduser()
  try:
    return path, _find_kind(path)
  except FileNotFoundError:
    raise ConversionError(f"there is no file {printable(path)}") from None
  except ConversionError as error:
    raise ConversionError(f"{printable(path)} is {error}") from None
  except (OSError, ValueError) as error:  # a zero byte in a name is a ValueError
    raise ConversionError(f"{printable(path)} cannot be read: {reason_of(error)}") from None


def _find_kind(path: Path) -> str:
  status = path.stat()
  if stat.S_ISDIR(status.st_mode):
    if (path / _OWN).is_file():
      raise ConversionError(f"a checkpoint of cwf_jax already: --weights={printable(path)} takes it as it is")
    raise ConversionError(f"a folder; weights are converted from a file ({', '.join(KINDS)})")
  if not stat.S_ISREG(status.st_mode):
    raise ConversionError("a device or a pipe; copy it into a file first")
  with path.open("rb") as file:
    start = file.read(512)
    if start.startswith(_HDF5) or _has_user_block(file):
      return HDF5
  if start.startswith(b"PK"):
    return _find_kind_of_archive(path)
  if start.startswith(_TORCH_LEGACY):
    return TORCH
  if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < status.st_size:
    return SAFETENSORS
  if _is_caffe(start):
    return CAFFE
  raise ConversionError(f"{_name_ending(path) or _name_bytes(start)}. What is read: {', '.join(KINDS)}; {FROM_PYTHON}")


def _has_user_block(file: BinaryIO) -> bool:
  """Whether HDF5 begins at byte 512, 1024, 2048 and so on, as its format allows."""
  place = 512
  while place <= _LARGEST_USER_BLOCK:
    file.seek(place)
    start = file.read(len(_HDF5))
    if start == _HDF5:
      return True
    if not start:
      return False
    place *= 2
  return False


def _name_ending(path: Path) -> str | None:
  """A kind that is not read by the file's name, where its first bytes differ from file to file."""
  return next((kind for ending, kind in _ENDINGS.items() if re.search(ending, path.name)), None)


def _name_bytes(start: bytes) -> str:
  if not start:
    return "empty"
  for place, magic, name in _FIRST_BYTES:
    if start[place:].startswith(magic):
      return name
  if _HDF5.startswith(start[: len(_HDF5)]):
    return f"cut off after {len(start)} bytes"
  return f"of an unknown kind (its first bytes are {start[:8].hex(' ')})"


def _is_caffe(start: bytes) -> bool:
  """Whether a file begins as Caffe's NetParameter: perhaps field 1, the network's name, then a field of layers (2 or 100)."""
  end = 2 + start[1] if start.startswith(b"\n") and len(start) > 1 else 0
  return start[2:end].isascii() and start[end:].startswith((b"\x12", b"\xa2\x06"))


def _find_kind_of_archive(path: Path) -> str:
  """The kind of a zip archive by the names in it; nothing is unpacked."""
  try:
    with zipfile.ZipFile(path) as archive:
      names = [name for name in archive.namelist() if not name.endswith("/")]
  except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
    raise ConversionError("a zip archive that is cut off or damaged; download it again") from None
  if KERAS_MEMBER in names:
    return KERAS_ZIP
  if any(name.endswith("/data.pkl") for name in names):
    return TORCH
  if names and all(name.endswith(".npy") for name in names):
    return NPZ
  raise ConversionError("a zip archive without weights")


def _describe_damage(error: Exception, path: Path) -> str:
  text = brief(error)
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
  datasets: dict[str, h5py.Dataset] = {}
  pending, opened = [("", root)], 0
  while pending:
    prefix, group = pending.pop()
    for name in group:
      opened += 1
      if opened > MOST_OBJECTS:
        raise ConversionError(f"{printable(root.file.filename)} holds more than {MOST_OBJECTS} groups and data sets, or a loop")
      child = open_child(group, name)
      if isinstance(child, h5py.Group):
        pending.append((f"{prefix}{name}/", child))
      elif child is not None:
        datasets[prefix + name] = child
  return datasets


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


def find_storage_problem(dataset: h5py.Dataset) -> str | None:
  """Why the values of a data set are not read; none of them is touched."""
  if dataset.external or dataset.is_virtual:
    return "has its values in another file, expected in this one"
  settings = dataset.id.get_create_plist()
  filters = [settings.get_filter(place)[0] for place in range(settings.get_nfilters())]
  unknown = [number for number in filters if number not in _FILTERS]
  if unknown:
    return f"is packed by the filter {unknown[0]} of HDF5, expected {', '.join(_FILTERS.values())} or none"
  if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > LARGEST_CHUNK:
    return f"is cut into pieces of {dataset.chunks}, too large for its {dataset.shape}"
  return None
