"""Pickles of every protocol against Python's own reading; code, bombs and damaged bytes, which are refused."""

import copyreg
import os
import pickle
import random
import resource
import struct
import sys

import numpy as np
import pytest

from cwf_jax.datasets.plain_pickle import PlainPickleError, read_plain_pickle

PROTOCOLS = range(6)
VALUES = {
  "plain": [None, True, -(2**70), 1.5, "café", (b"x", b""), {1: []}],
  "integers": np.arange(5, dtype=">i4"),
  "floats": np.array([1.5, -2, np.inf], np.float32),
  "texts": np.array(["tower", "café", ""]),
  "empty": np.array([], np.int64),
  "scalars": [np.int64(3), np.float32(2.5), np.str_("tower"), np.bool_(True)],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_are_those_of_pythons_own_reading_and_arrays_are_lists(protocol):
  expected = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in VALUES.items()}
  assert read_plain_pickle(pickle.dumps(VALUES, protocol)) == expected


def test_what_python_2_wrote():
  data = struct.pack("<2q", 1, 200)
  content = (
    b"\x80\x02}q\x01(U\x04rowsq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
    b"(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02i8K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89U\x10" + data + b"tbU\x04nameU\x04caf\xe9u."
  )
  assert read_plain_pickle(content) == {"rows": [1, 200], "name": "café"}


class _Calls:
  def __init__(self, called, *arguments):
    self._reduced = called, arguments

  def __reduce__(self):
    return self._reduced


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
  ("called", "arguments", "name"),
  [
    (os.system, ("touch ran",), f"{os.system.__module__}.system"),
    (eval, ("open('ran', 'w')",), "builtins.eval"),
    (np.load, ("ran.npy",), r"numpy(\.lib\._npyio_impl)?\.load"),
    (getattr, ("a", "upper"), "builtins.getattr"),
    (copyreg._reconstructor, (object, object, None), "copy_?reg._reconstructor"),
  ],
)
def test_code_is_named_and_not_run(called, arguments, name, protocol, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  content = pickle.dumps({"imlist": _Calls(called, *arguments)}, protocol)
  with pytest.raises(PlainPickleError, match=rf"^it asks for {name}, which no ground truth needs; it is not run$"):
    read_plain_pickle(content)
  assert not list(tmp_path.iterdir())


def _array(shape, data, code="i8"):
  """A pickle of an array that says what it likes of itself."""
  state = pickle.dumps((1, shape, None, False, data), 3)[2:-1]
  dtype = b"cnumpy\ndtype\n" + pickle.dumps((code, False, True), 2)[2:-1] + b"R"
  assert state.count(b"N") == 1
  return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR" + state.replace(b"N", dtype) + b"b."


_NOTED = pickle.dumps("a" * 1_000_000, 2)[2:-1]  # under the number 0
HOSTILE = {
  "code of protocol 0": (b"(S'touch ran'\nios\nsystem\n.", "it asks for os.system, "),
  "a name with an escape sequence": (b"cos\nsy\x1b[31m\n.", r"it asks for os.sy\\x1b\[31m, "),
  "a registered extension": (b"\x80\x02\x82\xf0.", "the instruction EXT1"),
  "a persistent id": (b"K\x01Q.", "the instruction BINPERSID"),
  "sets": (b"(" + b"\x8f" * 100_000 + b"l.", "the instruction EMPTY_SET"),
  "an array of objects": (pickle.dumps(np.array([{}], object)), "an array of the type O8"),
  "an array of records": (pickle.dumps(np.zeros(2, [("a", int)])), "an array of the type V8"),
  "a huge array": (_array((2**39,), b"a" * 8), "not as long as its shape says"),
  "a huge array of nothing": (_array((2**30, 0), b""), "not of one dimension"),
  "an array of no dimension": (pickle.dumps(np.array("abc")), "not of one dimension"),
  "an array of two dimensions": (pickle.dumps(np.zeros((2, 1))), "not of one dimension"),
  "texts of no length": (_array((2**39,), b"", "U0"), "."),
  "huge bytes": (b"\x80\x05\x8e" + struct.pack("<Q", 2**33) + b"a.", "."),
  "a huge bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"a.", "."),
  "a huge frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**62), "."),
  "a huge number to store under": (b"\x80\x02]r\xff\xff\xff\x7f.", "the instruction LONG_BINPUT"),
  "a key that is a deep tuple": (b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.", "more instructions than"),
  "many instructions": (b"(" + b"}" * 2_000_001 + b"l.", "more instructions than"),
  "bytes that are used many times": (
    b"(" + _NOTED + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 100 + b"l.",
    "its arrays have far more values than",
  ),
  "a changed dtype": (b"cnumpy\ndtype\n}S'decode'\nNs\x86b.", "."),
  "a number of a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", "."),
  "nothing": (b"", "."),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_on_one_line_and_in_bounded_memory(content, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises(PlainPickleError, match=message) as caught:
    read_plain_pickle(content)
  assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 and not list(tmp_path.iterdir())
  kilobytes = 1 if sys.platform.startswith("linux") else 1024
  assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / kilobytes < 400_000


def test_whatever_the_bytes_they_are_read_or_refused():
  chance = random.Random(0)
  sources = [pickle.dumps(VALUES, protocol) for protocol in PROTOCOLS]
  for number in range(1000):
    content = bytearray(sources[number % len(sources)])
    for _ in range(chance.randint(1, 3)):
      content[chance.randrange(len(content))] = chance.randrange(256)
    try:
      read_plain_pickle(bytes(content[: chance.randrange(len(content)) if number % 5 == 0 else None]))
    except PlainPickleError as error:
      assert "\n" not in str(error)
