import collections
import io
import pickle
import struct

import numpy as np
import pytest

from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.torch_files import read_state_dict

MAGIC, PROTOCOL, SYSTEM = 0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}




def _write(state, values, head=(MAGIC, PROTOCOL, SYSTEM), lengths=None):
  """A file in PyTorch's old format. `state` holds `_Tensor`s; `values` are the storages by key."""
  file = io.BytesIO()
  for part in head:
    pickle.dump(part, file, protocol=2)
  file.write(_Writer().dump(state))
  pickle.dump(list(values), file, protocol=2)
  for key, array in values.items():
    file.write(struct.pack("<q", (lengths or {}).get(key, array.size)) + array.tobytes())
  return file.getvalue()


class _Tensor(collections.namedtuple("_Tensor", "key kind length offset shape strides")):
  """A reference to a storage, as `torch._utils._rebuild_tensor_v2` takes it."""


class _Writer:
  """Writes the instructions by hand: PyTorch need not be installed, and a file may be malicious."""

  def dump(self, state):
    out = [b"\x80\x02", b"ccollections\nOrderedDict\n", b")R", b"("]
    for key, tensor in state.items():
      out += [self._text(key), tensor if isinstance(tensor, bytes) else self._tensor(tensor)]
    return b"".join([*out, b"u."])

  def _tensor(self, tensor):
    reference = [b"(", self._text("storage"), f"ctorch\n{tensor.kind}\n".encode(), self._text(tensor.key)]
    reference += [self._text("cpu"), self._number(tensor.length), b"NtQ"]
    parts = [b"ctorch._utils\n_rebuild_tensor_v2\n", b"(", *reference, self._number(tensor.offset)]
    parts += [self._numbers(tensor.shape), self._numbers(tensor.strides), b"\x89", b"ccollections\nOrderedDict\n)R", b"tR"]
    return b"".join(parts)

  def _text(self, text):
    return b"X" + struct.pack("<i", len(text)) + text.encode()

  def _number(self, number):
    return b"J" + struct.pack("<i", number)

  def _numbers(self, numbers):
    return b"(" + b"".join(self._number(number) for number in numbers) + b"t"


VALUES = {"7": np.arange(12, dtype=np.float32), "8": np.array([3], np.int64)}
STATE = {
  "whole": _Tensor("7", "FloatStorage", 12, 0, (3, 4), (4, 1)),
  "turned": _Tensor("7", "FloatStorage", 12, 1, (4, 2), (1, 4)),
  "count": _Tensor("8", "LongStorage", 1, 0, (), ()),
}


def test_tensors_are_views_of_their_storages():
  state = read_state_dict(io.BytesIO(_write(STATE, VALUES)), "w.pth")
  assert list(state) == ["whole", "turned", "count"]
  np.testing.assert_array_equal(state["whole"], np.arange(12, dtype=np.float32).reshape(3, 4))
  np.testing.assert_array_equal(state["turned"], [[1, 5], [2, 6], [3, 7], [4, 8]])
  assert state["turned"].flags.c_contiguous and state["turned"].dtype == np.float32
  assert state["count"].shape == () and state["count"] == 3 and state["count"].dtype == np.int64


def test_what_pytorch_writes_is_read():
  torch = pytest.importorskip("torch")
  module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(2, 5).half())
  expected = module.state_dict()
  expected["0.weight"] = expected["0.weight"].contiguous(memory_format=torch.channels_last)
  expected["parameter"] = torch.nn.Parameter(torch.ones(2, 2).double())
  file = io.BytesIO()
  torch.save(expected, file, _use_new_zipfile_serialization=False)
  state = read_state_dict(io.BytesIO(file.getvalue()), "w.pth")
  assert state.keys() == expected.keys()
  for key, value in expected.items():
    np.testing.assert_array_equal(state[key], value.detach().numpy())
    assert state[key].dtype == value.detach().numpy().dtype


@pytest.mark.parametrize("name", ["posix\nsystem", "builtins\neval", "torch\nload", "torch.nn\nLinear", "collections\ndeque"])
def test_every_other_name_is_refused_and_nothing_is_run(name, tmp_path):
  call = f"c{name}\n".encode() + b"(X" + struct.pack("<i", 5) + b"false" + b"tR"
  with pytest.raises(ConversionError, match=r"w.pth: it asks for .*, which no file of weights needs"):
    read_state_dict(io.BytesIO(_write({"w": call}, {})), "w.pth")


def _change(**fields):
  return {**STATE, "whole": STATE["whole"]._replace(**fields)}


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "damaged, or no file of weights"),
    (b"PK\x03\x04 a zip", "damaged, or no file of weights"),
    (pickle.dumps({"a": 1}), "a pickle, but not a file of weights"),
    (_write(STATE, VALUES, (MAGIC, 1002, SYSTEM)), "PyTorch's format 1002"),
    (_write(STATE, VALUES, (MAGIC, PROTOCOL, {**SYSTEM, "little_endian": False})), "little-endian"),
    (_write(STATE, VALUES)[:-4], "cut off"),
    (_write(STATE, VALUES, lengths={"7": 11}), "another length"),
    (_write(STATE, {"8": VALUES["8"]}), "the values of whole are not in the file"),
    (_write(_change(offset=1), VALUES), "whole reaches beyond its storage"),
    (_write(_change(strides=(8, 1)), VALUES), "whole reaches beyond its storage"),
    (_write(_change(shape=(2**31 - 1, 4), strides=(0, 1)), VALUES), "whole reaches beyond its storage"),
    (_write(_change(offset=-1), VALUES), "by whole numbers"),
    (_write(_change(kind="QInt8Storage"), VALUES), "it asks for torch.QInt8Storage"),
    (_write({"w": b"K\x01"}, {}), "w is no tensor"),
  ],
)
def test_a_damaged_or_foreign_file_is_one_line(content, message):
  with pytest.raises(ConversionError, match=message) as error:
    read_state_dict(io.BytesIO(content), "w.pth")
  assert "w.pth: " in str(error.value) and "\n" not in str(error.value)


def test_any_cut_and_any_changed_byte_is_an_error_or_harmless():
  content = _write(STATE, VALUES)
  generator = np.random.default_rng(0)
  for place in generator.integers(0, len(content), 300):
    for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]):
      try:
        read_state_dict(io.BytesIO(damaged), "w.pth")
      except ConversionError as error:
        assert str(error).startswith("w.pth: ")
