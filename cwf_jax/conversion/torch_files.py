"""Weights that PyTorch saved, read without PyTorch, and without running anything that a file may hold.

    state = read_state_dict(file, "lite0.pth")      # {"_conv_stem.weight": float32 [32 3 3 3], ...}

Since PyTorch 1.6 a file is a zip archive: data.pkl, a pickle of the state dict whose tensors refer to storages by key, and a
file data/KEY for each storage. Before, it was three pickles that name the format, the pickle of the state dict, a pickle of the
keys, then each storage's length and bytes in the order of the keys. A pickle can name any function and have it called. This
unpickler knows the few names that a state dict needs and refuses every other. What stands for those names cannot be changed by
a pickle's instructions. A hostile file can still ask for much memory.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.sources import list_briefly
from cwf_jax.errors import brief, printable

_SAVE_WEIGHTS = 'save the weights alone, torch.save(model.state_dict(), "x.pth")'
"""What can be done with a file that holds more than a state dict."""

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_STORAGES = {
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "DoubleStorage": np.dtype("<f8"),
  "FloatStorage": np.dtype("<f4"),
  "HalfStorage": np.dtype("<f2"),
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "ShortStorage": np.dtype("<i2"),
  "CharStorage": np.dtype("i1"),
  "ByteStorage": np.dtype("u1"),
  "BoolStorage": np.dtype("?"),
}
"""PyTorch's storage classes, little-endian as most machines write them."""


def read_state_dict(file: BinaryIO, name: str) -> dict[str, np.ndarray]:
  """Reads the tensors of a state dict, which may lie in a mapping under "state_dict", "model_state_dict" or "model".

  Args:
    file: open for reading, at its start.
    name: of the file, for messages.

  Returns:
    Each tensor by its key, in the file's order, in row-major order; tensors may share their values.

  Raises:
    ConversionError: another format, a pickle that names what no state dict needs, or a damaged file.
  """
  read = _read_archive if file.read(2) == b"PK" else _read_legacy
  file.seek(0)
  try:
    return read(file)
  except ConversionError as error:
    raise ConversionError(f"{printable(name)}: {error}") from None
  except Exception as error:  # a damaged pickle fails in as many ways as it has instructions
    raise ConversionError(f"{printable(name)}: damaged, or no file of weights that PyTorch saved ({brief(error)})") from None


def _read_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
  if _load(file) != _MAGIC:
    raise ConversionError("a pickle, but not a file of weights that PyTorch saved")
  protocol = _load(file)
  if protocol != _PROTOCOL:
    raise ConversionError(f"PyTorch's format {protocol!r}; only {_PROTOCOL} is read")
  system = _load(file)
  if not (isinstance(system, Mapping) and system.get("little_endian") is True):
    raise ConversionError("it was not written on a little-endian machine")
  unpickler = _Unpickler(file)
  state = _find_state(unpickler.load())
  values = {key: _read_storage(unpickler.storages[key], file) for key in _load(file)}
  return _to_arrays(state, values)


def _read_archive(file: BinaryIO) -> dict[str, np.ndarray]:
  with zipfile.ZipFile(file) as archive:
    members = {member.filename: member for member in archive.infolist()}
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
      raise ConversionError("its members are compressed, as PyTorch never writes them")
    folder = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
    if folder is None:
      raise ConversionError("an archive without data.pkl, so not a file of weights that PyTorch saved")
    order = "><"[f"{folder}byteorder" not in members or archive.read(f"{folder}byteorder") == b"little"]
    unpickler = _Unpickler(io.BytesIO(archive.read(f"{folder}data.pkl")))
    state = _find_state(unpickler.load())
    values = {}
    for key, storage in unpickler.storages.items():
      dtype = _STORAGES[storage.kind].newbyteorder(order)
      values[key] = np.frombuffer(archive.read(f"{folder}data/{key}"), dtype)
      if len(values[key]) != storage.length:
        raise ConversionError("a storage has another length than its tensors")
    return _to_arrays(state, values)


class _Storage(NamedTuple):
  """A run of values that tensors share: its key, the name of its class in PyTorch, and its length in values."""

  key: str
  kind: str
  length: int


class _Tensor(NamedTuple):
  """A view of a storage: offset, sizes and strides in values."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
  """In place of `torch._utils._rebuild_tensor_v2`: the same arguments; gradients and hooks are ignored."""
  numbers = (offset, *shape, *strides)
  if not isinstance(storage, _Storage) or len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
    raise ConversionError("a tensor does not refer to a storage by whole numbers")
  return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
  """In place of `torch._utils._rebuild_parameter`: the tensor itself."""
  return tensor


_KNOWN: Mapping[tuple[str, str], Any] = {
  ("collections", "OrderedDict"): collections.OrderedDict,
  ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
  ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
  **{("torch", kind): kind for kind in _STORAGES},
}
"""Every name that a file may use, and what stands for it."""


class _Unpickler(pickle.Unpickler):
  """Finds the names of `_KNOWN` and no others.

  Attributes:
    storages: those that tensors refer to, by key.
  """

  def __init__(self, file: BinaryIO):
    super().__init__(file, encoding="utf-8")
    self.storages: dict[str, _Storage] = {}

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _KNOWN:
      asked = printable(f"{module}.{name}")
      raise ConversionError(f"it asks for {asked}, which no file of weights needs; it is not read: {_SAVE_WEIGHTS}")
    return _KNOWN[module, name]

  def persistent_load(self, pid: Any) -> _Storage:
    """The storage of ("storage", class, key, device, length), in old files with a view of another storage, or None."""
    tag, kind, key, _, length, *view = pid
    view = view[0] if view else None
    if tag != "storage" or kind not in _STORAGES or view is not None or type(length) is not int or length < 0:
      raise ConversionError("a storage is described in a way that is not known")
    return self.storages.setdefault(key, _Storage(key, kind, length))


def _load(file: BinaryIO) -> Any:
  return _Unpickler(file).load()


def _read_storage(storage: _Storage, file: BinaryIO) -> np.ndarray:
  """A storage's values: its length as 8 bytes, then the values."""
  dtype, length = _STORAGES[storage.kind], int.from_bytes(file.read(8), "little")
  content = file.read(storage.length * dtype.itemsize)
  if length != storage.length or len(content) != length * dtype.itemsize:
    raise ConversionError("a storage is cut off, or has another length than its tensors")
  return np.frombuffer(content, dtype)


def _find_state(loaded: Any) -> Any:
  """The state dict in what was saved: itself, or in a training's checkpoint."""
  if isinstance(loaded, dict):
    for key in ("state_dict", "model_state_dict", "model"):
      if isinstance(dict(loaded).get(key), dict):
        return loaded[key]
  return loaded


def _to_arrays(state: Any, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  if not isinstance(state, dict):
    raise ConversionError(f"it holds no state dict, a mapping of names to tensors: {_SAVE_WEIGHTS}")
  if not all(isinstance(key, str) and isinstance(tensor, _Tensor) for key, tensor in dict(state).items()):
    keys = list_briefly([str(key) for key in dict(state)])
    raise ConversionError(f"it holds no state dict, a mapping of names to tensors, but a mapping of {keys}: {_SAVE_WEIGHTS}")
  return {key: _to_array(key, tensor, values) for key, tensor in dict(state).items()}


def _to_array(key: str, tensor: _Tensor, values: Mapping[str, np.ndarray]) -> np.ndarray:
  if tensor.storage.key not in values:
    raise ConversionError(f"the values of {printable(key)} are not in the file")
  storage = values[tensor.storage.key]
  if math.prod(tensor.shape) == 0:
    return np.zeros(tensor.shape, storage.dtype)
  last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
  if last >= len(storage) or math.prod(tensor.shape) > len(storage):
    raise ConversionError(f"{printable(key)} reaches beyond its storage")
  strides = tuple(stride * storage.itemsize for stride in tensor.strides)
  return np.asarray(np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides), order="C")
