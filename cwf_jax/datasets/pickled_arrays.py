"""NumPy's arrays in pickles, made from their bytes: NumPy's own unpickling trusts what the file says of itself.

`NAMES` are all names that such a pickle calls, of NumPy 1 and 2 and of any protocol, and what is called in their place. Each
takes `spend`, to be called with how many numbers (eight bytes) it makes, and then the pickle's arguments.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_TYPE = re.compile(r"(b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,5})")
_LATIN = ("latin1", "latin-1", "iso-8859-1")

Spend = Callable[[int], None]


class ArrayError(ValueError):
  """An array that is not one of numbers or texts."""


@dataclasses.dataclass(eq=False)
class UnfilledArray:
  """An array whose content the next step tells, and where it is noted until then."""

  notes: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class ArrayType:
  """A dtype.

  Attributes:
    code: such as "i8".
    order: of the bytes, "<", ">", "|" or "=".
  """

  code: str
  order: str = "="

  def set_state(self, state: Any) -> None:
    """Takes the order of the bytes.

    Raises:
      ArrayError: the type has fields or parts.
    """
    _, order, *structure = state
    if order not in ("<", ">", "|", "=") or any(part is not None for part in structure[:3]):
      raise ArrayError("it holds an array that is not of plain numbers or texts")
    self.order = order


@dataclasses.dataclass(frozen=True)
class ArrayClass:
  """`numpy.ndarray`, which is only ever named, never called."""

  def __call__(self, *_: Any) -> Any:
    raise ArrayError("it holds an array that is no plain one")


def fill_array(spend: Spend, state: Any) -> Any:
  """An array's state as lists.

  Raises:
    TypeError: it is no state, or its parts are not what they should be.
    ValueError: its shape is not that of its bytes.
  """
  _, shape, dtype, by_columns, data = state
  return make_array(spend, data, dtype, shape, "F" if by_columns else "C")


def make_array(spend: Spend, data: Any, dtype: Any, shape: Any, order: Any = "C") -> Any:
  """The array as lists; nothing is taken on trust.

  Args:
    spend: called with the numbers before they are made.
    data: the array's bytes, as text if Python 2 wrote them.
    dtype: an `ArrayType`.
    shape: a tuple of whole numbers.
    order: "C", or "F" for columns first.

  Raises:
    TypeError: the data are no bytes, the type or the order is none.
    ValueError: the shape is none, or not that of the bytes.
  """
  data = data.encode("latin-1") if isinstance(data, str) else data  # as Python 2 has them
  if not isinstance(data, bytes | bytearray) or not isinstance(dtype, ArrayType) or order not in ("C", "F"):
    raise TypeError("an array's content is not its bytes, or its type is none")
  if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(side) is int and 0 <= side < 2**40 for side in shape):
    raise ValueError("an array's shape is no shape")
  kind = np.dtype(("=" if dtype.order == "|" else dtype.order) + dtype.code)
  if math.prod(shape) * kind.itemsize != len(data):
    raise ValueError(f"an array of the shape {list(shape)} has {len(data)} bytes")
  # Of an array without numbers: the empty lists. Of one of texts: what they take; one file's bytes can be used many times.
  spend(max(math.prod(side for side in shape if side), len(data) // 8))
  array = np.frombuffer(data, kind) if data else np.zeros(0, kind)
  return array.reshape(shape, order=order).tolist()


def _make_scalar(spend: Spend, dtype: Any, data: Any) -> Any:
  return make_array(spend, data, dtype, ())


def _start_array(_: Spend, kind: Any, shape: Any, code: Any) -> UnfilledArray:
  if kind != ArrayClass() or shape != (0,) or code not in ("b", b"b"):
    raise ArrayError("it holds an array that is no plain one")
  return UnfilledArray()


def _make_type(_: Spend, code: Any, *flags: Any) -> ArrayType:
  code = code.decode("latin-1") if isinstance(code, bytes) else str(code)[:100]
  if not _TYPE.fullmatch(code):
    holds = "Python objects" if code.startswith("O") else f"the type {ascii(code)[1:-1][:100]}"
    raise ArrayError(f"it holds an array of {holds}; read are arrays of numbers and texts")
  return ArrayType(code)


def _encode(spend: Spend, text: Any, encoding: Any) -> bytes:
  """Bytes in a pickle of an old protocol."""
  if not isinstance(text, str) or encoding not in _LATIN:
    raise TypeError("bytes are written as text in another encoding than Latin-1")
  spend(len(text) // 8)
  return text.encode("latin-1")


def _make_bytes(spend: Spend, *content: Any) -> bytes:
  if len(content) > 1 or not all(isinstance(part, bytes | bytearray) for part in content):
    raise TypeError("bytes are made of something that is none")
  spend(sum(map(len, content)) // 8)
  return bytes(*content)


NAMES: Mapping[str, Callable[..., Any]] = {
  "numpy.ndarray": ArrayClass(),
  "numpy.dtype": _make_type,
  "_codecs.encode": _encode,
  **{
    f"numpy.{core}.{name}": make
    for core in ("core", "_core")
    for name, make in (
      ("multiarray._reconstruct", _start_array),
      ("multiarray.scalar", _make_scalar),
      ("numeric._frombuffer", make_array),
    )
  },
  **{f"{module}.{name}": _make_bytes for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
}
