"""State dicts as PyTorch pickles them, written by hand: PyTorch need not be installed, and a file may be malicious."""

import io
import pickle
import struct
from typing import NamedTuple

MAGIC, PROTOCOL, SYSTEM = 0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


class Tensor(NamedTuple):
  """A reference to a storage, as `torch._utils._rebuild_tensor_v2` takes it."""

  key: str
  kind: str
  length: int
  offset: int
  shape: tuple
  strides: tuple


def pickle_state(state, is_old=False, wrapper=None):
  """The instructions of a pickle of {name: `Tensor`, or instructions in its place}, below the key `wrapper`."""
  out = [b"\x80\x02"] + ([b"}", _text(wrapper)] if wrapper else []) + [b"ccollections\nOrderedDict\n)R("]
  for name, tensor in state.items():
    out += [_text(name), tensor if isinstance(tensor, bytes) else _pickle_tensor(tensor, is_old)]
  return b"".join([*out, b"u", b"s." if wrapper else b"."])


def _pickle_tensor(tensor, is_old):
  storage = [b"(", _text("storage"), f"ctorch\n{tensor.kind}\n".encode(), _text(tensor.key), _text("cpu")]
  storage += [_whole(tensor.length), b"NtQ" if is_old else b"tQ"]
  parts = [b"ctorch._utils\n_rebuild_tensor_v2\n(", *storage, _whole(tensor.offset), _numbers(tensor.shape)]
  return b"".join([*parts, _numbers(tensor.strides), b"\x89ccollections\nOrderedDict\n)RtR"])


def _text(text):
  return b"X" + struct.pack("<i", len(text)) + text.encode()


def _whole(number):
  return b"J" + struct.pack("<i", number)


def _numbers(numbers):
  return b"(" + b"".join(map(_whole, numbers)) + b"t"


def dump_legacy(state, values, head=(MAGIC, PROTOCOL, SYSTEM), lengths=None):
  """A file in the format before PyTorch 1.6. `values` are the storages by key; `lengths` are stated in place of theirs."""
  file = io.BytesIO()
  for part in head:
    pickle.dump(part, file, protocol=2)
  file.write(pickle_state(state, is_old=True))
  pickle.dump(list(values), file, protocol=2)
  for key, array in values.items():
    file.write(struct.pack("<q", (lengths or {}).get(key, array.size)) + array.tobytes())
  return file.getvalue()
