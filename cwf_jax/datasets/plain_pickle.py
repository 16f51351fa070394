"""Pickles of plain values and NumPy arrays, read without running anything that a file may hold.

A pickle can name any function and have it called. This unpickler knows the few names that an array needs and refuses every
other. A few bytes can also ask for gigabytes, so the file's instructions are checked and counted before they are followed.

    >>> import pickle
    >>> read_plain_pickle(pickle.dumps({"rows": [0, 1, 2], "name": "tower"}))
    {'rows': [0, 1, 2], 'name': 'tower'}
"""

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from cwf_jax.errors import brief, printable

MOST_STEPS = 2_000_000
"""Instructions of a pickle; RParis6k's has 39,000."""

_MOST_TUPLES = 50_000
"""The most tuples of a pickle: Python's process ends at a dictionary's key that is a tuple nested 200,000 deep."""

_MOST_ARRAY_BYTES = 2**24
"""The most bytes of all arrays of a pickle together, repeated ones counted each time."""

_REFUSED = re.compile("EXT|SET$|ADDITEMS|PERSID|BUFFER")
"""Instructions for registered objects, sets, and what is outside of the file."""


class PlainPickleError(ValueError):
  """The bytes are no pickle, are cut short, are too much, or hold something else than plain values and arrays."""


def read_plain_pickle(content: bytes) -> Any:
  """Reads a pickle of any protocol, those of Python 2 too: its texts are read as Latin-1.

  Returns:
    Dictionaries, lists, tuples, texts, bytes, numbers, booleans and None. Arrays of numbers or texts are lists.

  Raises:
    PlainPickleError: one line, whatever the bytes.
  """
  try:
    _check_steps(content)
    return _Unpickler(io.BytesIO(content), encoding="latin-1").load()
  except PlainPickleError:
    raise
  except Exception as error:  # a damaged pickle fails in as many ways as it has instructions
    raise PlainPickleError(f"it is no pickle, or a damaged one: {printable(brief(error))[:120]}") from None


def _check_steps(content: bytes) -> None:
  """Raises PlainPickleError where following the instructions could take far more memory than the file's size explains."""
  tuples = 0
  for steps, (step, argument, _) in enumerate(pickletools.genops(content)):
    tuples += "TUPLE" in step.name
    if steps >= MOST_STEPS or tuples > _MOST_TUPLES:
      raise PlainPickleError("it has far more instructions than a ground truth needs")
    # Python 3.11's unpickler makes a table as long as the greatest number under which a value is stored.
    is_far = step.name.endswith("PUT") and int(argument) > len(content)
    if is_far or _REFUSED.search(step.name):
      raise PlainPickleError(f"it holds something else than plain values (the instruction {step.name})")


class _Array(list):
  """In place of `numpy.ndarray`: a list, filled when the pickle sets the array's state."""

  __slots__ = ()

  def __init__(self, *_: Any):
    super().__init__()

  def __setstate__(self, state: Any) -> None:
    _, shape, dtype, _, data = state
    self[:] = dtype.decode(data, shape)


class _Unpickler(pickle.Unpickler):
  """Finds the names that arrays need, and no others.

  What stands for a name is made for one file, or is a class with a `__setstate__` of its own: a pickle's BUILD instruction can
  set attributes of anything else.
  """

  _bytes_left = _MOST_ARRAY_BYTES

  def find_class(self, module: str, name: str) -> Callable[..., Any]:
    module = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
    known = {
      "numpy.ndarray": _Array,
      "numpy.core.multiarray._reconstruct": _Array,
      "numpy.dtype": lambda code, *_: _DType(self, code),
      "numpy.core.multiarray.scalar": lambda dtype, data: dtype.decode(data, (1,))[0],
      "numpy.core.numeric._frombuffer": lambda data, dtype, shape, *_: dtype.decode(data, shape),
      "_codecs.encode": lambda text, _: self.encode(text),  # bytes in an old protocol
      "builtins.bytes": lambda: b"",
    }
    if f"{module}.{name}" not in known:
      raise PlainPickleError(f"it asks for {printable(f'{module}.{name}')[:100]}, which no ground truth needs; it is not run")
    return known[f"{module}.{name}"]

  def encode(self, text: str) -> bytes:
    self.count_bytes(len(text))
    return text.encode("latin-1")

  def count_bytes(self, count: int) -> None:
    self._bytes_left -= count
    if self._bytes_left < 0:
      raise PlainPickleError("its arrays have far more values than a ground truth needs")


class _DType:
  """In place of `numpy.dtype`."""

  def __init__(self, reader: _Unpickler, code: str):
    self._reader, self._code, self._order = reader, code, "="

  def __setstate__(self, state: Any) -> None:
    self._order = "=" if state[1] == "|" else state[1]

  def decode(self, data: Any, shape: Any) -> list[Any]:
    """The values of an array's bytes."""
    data = self._reader.encode(data) if isinstance(data, str) else data  # as Python 2 has them
    if not re.fullmatch(r"[<>=][biufSU][0-9]{1,6}", f"{self._order}{self._code}"):
      raise PlainPickleError(f"it holds an array of the type {printable(str(self._code))[:20]}, not of numbers or texts")
    self._reader.count_bytes(len(data))
    values = np.frombuffer(data, self._order + self._code).tolist()
    if shape != (len(values),):
      raise PlainPickleError("it holds an array that is not of one dimension, or not as long as its shape says")
    return values
