import io
import pickle
import struct

import numpy as np
import pytest

from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.torch_files import read_state_dict
from tests.conversion.foreign_torch import MAGIC, PROTOCOL, SYSTEM, Tensor, dump_legacy

VALUES = {"7": np.arange(12, dtype=np.float32), "8": np.array([3], np.int64)}
STATE = {
  "whole": Tensor("7", "FloatStorage", 12, 0, (3, 4), (4, 1)),
  "turned": Tensor("7", "FloatStorage", 12, 1, (4, 2), (1, 4)),
  "count": Tensor("8", "LongStorage", 1, 0, (), ()),
}


def test_tensors_are_views_of_their_storages():
  state = read_state_dict(io.BytesIO(dump_legacy(STATE, VALUES)), "w.pth")
  assert list(state) == ["whole", "turned", "count"]
  np.testing.assert_array_equal(state["whole"], np.arange(12, dtype=np.float32).reshape(3, 4))
  np.testing.assert_array_equal(state["turned"], [[1, 5], [2, 6], [3, 7], [4, 8]])
  assert state["turned"].flags.c_contiguous and state["turned"].dtype == np.float32
  assert state["count"].shape == () and state["count"] == 3 and state["count"].dtype == np.int64


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_pytorch_writes_is_read(is_zip):
  torch = pytest.importorskip("torch")
  module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(2, 5).half())
  expected = module.state_dict()
  expected["0.weight"] = expected["0.weight"].contiguous(memory_format=torch.channels_last)
  expected["parameter"] = torch.nn.Parameter(torch.ones(2, 2).double())
  file = io.BytesIO()
  torch.save(expected, file, _use_new_zipfile_serialization=is_zip)
  state = read_state_dict(io.BytesIO(file.getvalue()), "w.pth")
  assert state.keys() == expected.keys()
  for key, value in expected.items():
    np.testing.assert_array_equal(state[key], value.detach().numpy())
    assert state[key].dtype == value.detach().numpy().dtype


@pytest.mark.parametrize("name", ["posix\nsystem", "builtins\neval", "torch\nload", "torch.nn\nLinear", "collections\ndeque"])
def test_every_other_name_is_refused_and_nothing_is_run(name, tmp_path):
  call = f"c{name}\n".encode() + b"(X" + struct.pack("<i", 5) + b"false" + b"tR"
  with pytest.raises(ConversionError, match=r"w.pth: it asks for .*, which no file of weights needs.* torch.save"):
    read_state_dict(io.BytesIO(dump_legacy({"w": call}, {})), "w.pth")


def _change(**fields):
  return {**STATE, "whole": STATE["whole"]._replace(**fields)}


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "damaged, or no file of weights"),
    (b"PK\x03\x04 a zip", "damaged, or no file of weights"),
    (pickle.dumps({"a": 1}), "a pickle, but not a file of weights"),
    (dump_legacy(STATE, VALUES, (MAGIC, 1002, SYSTEM)), "PyTorch's format 1002"),
    (dump_legacy(STATE, VALUES, (MAGIC, PROTOCOL, {**SYSTEM, "little_endian": False})), "little-endian"),
    (dump_legacy(STATE, VALUES)[:-4], "cut off"),
    (dump_legacy(STATE, VALUES, lengths={"7": 11}), "another length"),
    (dump_legacy(STATE, {"8": VALUES["8"]}), "the values of whole are not in the file"),
    (dump_legacy(_change(offset=1), VALUES), "whole reaches beyond its storage"),
    (dump_legacy(_change(strides=(8, 1)), VALUES), "whole reaches beyond its storage"),
    (dump_legacy(_change(shape=(2**31 - 1, 4), strides=(0, 1)), VALUES), "whole reaches beyond its storage"),
    (dump_legacy(_change(offset=-1), VALUES), "by whole numbers"),
    (dump_legacy(_change(kind="QInt8Storage"), VALUES), "it asks for torch.QInt8Storage"),
    (dump_legacy({"net": b"}", "epoch": b"K\x02"}, {}), r"a mapping of net, epoch: save the weights alone, torch.save\(model"),
  ],
)
def test_a_damaged_or_foreign_file_is_one_line(content, message):
  with pytest.raises(ConversionError, match=message) as error:
    read_state_dict(io.BytesIO(content), "w.pth")
  assert "w.pth: " in str(error.value) and "\n" not in str(error.value)


def test_any_cut_and_any_changed_byte_is_an_error_or_harmless():
  content = dump_legacy(STATE, VALUES)
  generator = np.random.default_rng(0)
  for place in generator.integers(0, len(content), 300):
    for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]):
      try:
        read_state_dict(io.BytesIO(damaged), "w.pth")
      except ConversionError as error:
        assert str(error).startswith("w.pth: ")
