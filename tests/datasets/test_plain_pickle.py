"""Pickles of every protocol against Python's own reading; code, bombs and damaged bytes, which are refused."""

import copyreg
import os
import pickle
import random
import resource
import struct
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from cwf_jax.datasets.plain_pickle import PlainPickleError, read_plain_pickle

PROTOCOLS = range(6)

plain = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-(2**70), 2**70)
  | st.floats(allow_nan=False)
  | st.text(max_size=8)
  | st.binary(max_size=8).filter(len),
  lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
  max_leaves=20,
)


@hypothesis.settings(max_examples=100)
@hypothesis.given(plain, st.sampled_from(PROTOCOLS))
def test_plain_values_are_those_of_pythons_own_reading(value, protocol):
  content = pickle.dumps(value, protocol)
  assert read_plain_pickle(content) == pickle.loads(content) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
  "array",
  [
    np.arange(5),
    np.arange(5, dtype=">i4"),
    np.array([], np.int64),
    np.zeros((2, 0)),
    np.array([1.5, -2, np.inf], np.float32),
    np.array([True, False]),
    np.arange(250, 256, dtype=np.uint8),
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.array(["tower", "café", ""]),
    np.array([b"tower", b"x"]),
    np.array(7),
  ],
  ids=str,
)
def test_arrays_are_lists(array, protocol):
  again = [array, {"same": array}]
  assert read_plain_pickle(pickle.dumps(again, protocol)) == [array.tolist(), {"same": array.tolist()}]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scalars_of_numpy_and_empty_bytes(protocol):
  value = [np.int64(3), np.float32(2.5), np.str_("tower"), np.bool_(True), b""]
  assert read_plain_pickle(pickle.dumps(value, protocol)) == [3, 2.5, "tower", True, b""]


def _as_python_2(protocol):
  """What Python 2 and NumPy 1 wrote of {"rows": array([1, 200]), "name": "caf\\xe9"}."""
  data = struct.pack("<2q", 1, 200)
  if protocol == 0:
    return (
      b"(dp0\nS'rows'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
      b"(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'i8'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
      b"S" + repr(data)[1:].encode() + b"\np15\ntp16\nbsS'name'\np17\nS'caf\\xe9'\np18\ns."
    )
  return (
    b"\x80\x02}q\x01(U\x04rowsq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
    b"(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02i8K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89U\x10" + data + b"tbU\x04nameU\x04caf\xe9u."
  )


@pytest.mark.parametrize("protocol", [0, 2])
def test_what_python_2_wrote(protocol):
  assert read_plain_pickle(_as_python_2(protocol)) == {"rows": [1, 200], "name": "caf\xe9"}


@pytest.mark.parametrize("line", [b"S'caf\\xe9 \\\\ \\' \\n'\n.", b'S"it\'s"\n.', b"S''\n."])
def test_texts_in_quotes(line):
  assert read_plain_pickle(line) == pickle.loads(line, encoding="latin-1")


class _Calls:
  def __init__(self, called, *arguments):
    self._reduced = called, arguments

  def __reduce__(self):
    return self._reduced


def _never(*_):
  raise AssertionError("it was run")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
  ("called", "arguments", "name"),
  [
    (os.system, ("touch ran",), f"{os.system.__module__}.system"),
    (eval, ("open('ran', 'w')",), "eval"),
    (np.load, ("ran.npy",), "numpy.load"),
    (np.frombuffer, (b"12345678",), r"numpy(\._?core\.multiarray)?\.frombuffer"),
    (getattr, ("a", "upper"), "getattr"),
    (copyreg._reconstructor, (object, object, None), "copy_?reg._reconstructor"),
  ],
)
def test_code_is_named_and_not_run(called, arguments, name, protocol, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  content = pickle.dumps({"imlist": _Calls(called, *arguments)}, protocol)
  with pytest.raises(PlainPickleError, match=rf"^it holds code: \S*{name}$"):
    read_plain_pickle(content)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"cos\nsystem\n(S'touch ran'\ntR.", "it holds code: os.system"),
    (b"(S'touch ran'\nios\nsystem\n.", "it holds code: os.system"),
    (b"cos\nsystem\n.", "it holds code: os.system"),
    (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "it holds code: os.system"),
    (b"c__builtin__\neval\n.", "it holds code: __builtin__.eval"),
    (b"cos\nsy\x1b[31m\n.", r"it holds code: os.sy\\x1b\[31m"),
    (b"\x80\x02\x82\xf0.", "it holds code: the registered extension 240"),
    (b"\x80\x02\x83\x01\x01.", "it holds code: the registered extension 257"),
    (b"Poutside\n.", r"it refers to something outside of it \(a persistent id\)"),
    (b"K\x01Q.", r"it refers to something outside of it \(a persistent id\)"),
    (b"\x80\x05\x97.", r"it refers to something outside of it \(a buffer\)"),
    (b"\x80\x04\x8f.", r"it holds something else than plain values \(the step EMPTY_SET\)"),
    (b"\x80\x02cnumpy\nndarray\n)\x81.", r"it holds something else than plain values \(the step NEWOBJ\)"),
    (b"cnumpy\nndarray\n(K\x05\x85tR.", "it holds an array that is no plain one"),
    (b"cnumpy\nndarray\n.", "its value is neither plain nor a NumPy array"),
    (pickle.dumps(np.array([{}, None], object)), "it holds an array of Python objects; .*"),
    (pickle.dumps(np.zeros(2, [("a", int)])), "it holds an array of the type V8; .*"),
    (pickle.dumps(np.zeros(2, "M8[s]")), "it holds an array of the type M8; .*"),
    (pickle.dumps(np.zeros(2, complex)), "it holds an array of the type c16; .*"),
    (b"\x80\x02}K\x01\x85K\x01s.", "a dictionary has a key that is neither text nor number"),
    (b"\x80\x09N.", "it is of protocol 9; known are 0 to 5"),
    (b"", "it is empty"),
    (b"N", "it ends early, as a file that was cut short"),
    (b"X\xff\x00\x00\x00abc", "it ends early, as a file that was cut short"),
    (b"S'abc", "it ends early, as a file that was cut short"),
    (b"N.N.", "it is no pickle, or a damaged one: something follows its value"),
    (b"NN.", "it is no pickle, or a damaged one: something follows its value"),
    (b"\x7fELF", r"it is no pickle, or a damaged one: byte 0 is b'\\x7f'"),
    (b"\xff\xd8\xff\xe0", r"it is no pickle, or a damaged one: byte 0 is b'\\xff'"),
    (b"h\x05.", "it is no pickle, or a damaged one: 5"),
    (b"0.", r"it holds something else than plain values \(the step POP\)"),
    (b".", "it is no pickle, or a damaged one: a step lacks its value"),
    *((code + b".", "it is no pickle, or a damaged one: .*") for code in (b"a", b"e", b"t", b"u", b"R", b"b", b"\x93")),
  ],
)  # fmt: skip
def test_what_is_refused(content, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(PlainPickleError, match=f"^{message}$") as caught:
    read_plain_pickle(content)
  assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def _array(shape, data, code="i8", protocol=2):
  """A pickle of an array that says what it likes of itself."""
  state = pickle.dumps((1, shape, None, False, data), protocol)[2:-1]
  dtype = b"cnumpy\ndtype\n" + pickle.dumps((code, False, True), 2)[2:-1] + b"R"
  assert state.count(b"N") == 1
  return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR" + state.replace(b"N", dtype) + b"b."


BOMBS = {
  "a huge shape": _array((2**39,), b"a" * 8, protocol=3),
  "a huge shape of nothing": _array((2**30, 0), b"", protocol=3),
  "many sides": _array((1,) * 5000, b"a" * 8, protocol=3),
  "a negative side": _array((-1,), b"a" * 8, protocol=3),
  "texts of no length": _array((2**39,), b"", "U0", protocol=3),
  "eight gigabytes of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**33) + b"a.",
  "eight gigabytes of a bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"a.",
  "eight gigabytes of text": b"\x80\x04\x8d" + struct.pack("<Q", 2**33) + b"a.",
  "a huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62),
  "a key that is a deep tuple": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
  "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
}  # fmt: skip


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused_before_they_go_off(content):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises(PlainPickleError) as caught:
    read_plain_pickle(content)
  assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
  kilobytes = 1 if sys.platform.startswith("linux") else 1024
  assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / kilobytes < 400_000


def test_steps_are_counted(monkeypatch):
  monkeypatch.setattr("cwf_jax.datasets.plain_pickle.MOST_STEPS", 1000)
  assert read_plain_pickle(b"(" + b"}" * 997 + b"l.") == [{}] * 997
  for content in (b"(" + b"}" * 998 + b"l.", pickle.dumps(np.zeros(1000, np.int8))):
    with pytest.raises(PlainPickleError, match=r"^it has more than 1,000 steps and numbers, far more"):
      read_plain_pickle(content)


def test_a_huge_note_is_only_a_number():
  assert read_plain_pickle(b"\x80\x02]r\xff\xff\xff\x7f.") == []


def test_bytes_that_are_used_many_times_count_each_time():
  text = pickle.dumps("a" * 1_000_000, 2)[2:-1]  # noted as 0
  recalled = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 100
  with pytest.raises(PlainPickleError, match="more than 2,000,000 steps"):
    read_plain_pickle(b"(" + text + recalled + b"l.")


def test_whatever_the_bytes_they_are_read_or_refused():
  chance = random.Random(0)
  sources = [pickle.dumps({"a": np.arange(3), "b": ["x", 1.5, (None, b"y")]}, protocol) for protocol in PROTOCOLS]
  sources += [_as_python_2(0), _as_python_2(2)]
  for number in range(3000):
    content = bytearray(sources[number % len(sources)])
    for _ in range(chance.randint(1, 3)):
      content[chance.randrange(len(content))] = chance.randrange(256)
    if number % 5 == 0:
      content = content[: chance.randrange(len(content))]
    try:
      read_plain_pickle(bytes(content))
    except PlainPickleError as error:
      assert "\n" not in str(error)


def test_registered_extensions_are_refused():
  copyreg.add_extension("os", "system", 240)
  try:
    pickle.loads(b"\x80\x02\x82\xf0.")  # now Python's own unpickler has it at hand, and asks no one
    with pytest.raises(PlainPickleError, match=r"^it holds code: the registered extension 240$"):
      read_plain_pickle(b"\x80\x02\x82\xf0(S'touch ran'\ntR.")
  finally:
    copyreg.remove_extension("os", "system", 240)


def test_it_does_not_call_pythons_unpickler(monkeypatch):
  content = pickle.dumps(np.arange(3))
  for name in ("loads", "load", "Unpickler"):
    monkeypatch.setattr(pickle, name, _never)
  assert read_plain_pickle(content) == [0, 1, 2]
