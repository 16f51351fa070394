"""Pickles of plain values, read without running anything.

A pickle is a program, and Python's own unpickler runs it. Even one that is kept from all code (`find_class`) takes gigabytes
for a file of ten bytes, or ends the process at a key that is a deep tuple. So the steps that build plain values are carried out
here, and every other one is refused.

    >>> import pickle
    >>> read_plain_pickle(pickle.dumps({"rows": [0, 1, 2], "name": "tower"}))
    {'rows': [0, 1, 2], 'name': 'tower'}
"""

import io
import pickletools
import re
from collections.abc import Callable
from typing import Any

from cwf_jax.datasets.pickled_arrays import NAMES, ArrayError, ArrayType, UnfilledArray, fill_array

MOST_STEPS = 2_000_000
"""Steps of a pickle and numbers in its arrays, together: so memory is bounded. RParis6k's has 39,000."""

_PLAIN = (str, bytes, int, float, type(None))
_ESCAPED = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\", b"'": b"'", b'"': b'"'}


class PlainPickleError(ValueError):
  """The bytes are no pickle, are cut short, are too much, or hold something else than plain values."""


def read_plain_pickle(content: bytes) -> Any:
  """The value of a pickle of any protocol, those of Python 2 too: its texts are read as Latin-1.

  Returns:
    Dictionaries, lists, tuples, texts, bytes, numbers, booleans and None; arrays of numbers or texts are lists (of lists).

  Raises:
    PlainPickleError: one line, whatever the bytes.
  """
  if not content:
    raise PlainPickleError("it is empty")
  try:
    return _Reader(content).read()
  except PlainPickleError:
    raise
  except ArrayError as error:
    raise PlainPickleError(str(error)) from None
  except (ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:
    text = " ".join(str(error).split()) or type(error).__name__
    raise PlainPickleError(f"it is no pickle, or a damaged one: {ascii(text)[1:-1][:120]}") from None


class _Reader:
  """A stack, as the pickle's steps take it for granted, and what they note for later."""

  def __init__(self, content: bytes):
    self._file, self._length = io.BytesIO(content), len(content)
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._notes: dict[int, Any] = {}
    self._left = MOST_STEPS

  def read(self) -> Any:
    while True:
      at = self._file.tell()
      code = self._file.read(1)
      if not code:
        raise PlainPickleError("it ends early, as a file that was cut short")
      step = pickletools.code2op.get(code.decode("latin-1"))
      if step is None:
        raise PlainPickleError(f"it is no pickle, or a damaged one: byte {at} is {code!r}")
      self._spend(1)
      argument = self._read_argument(step)
      if step.name == "STOP":
        return self._finish()
      handler = _STEPS.get(step.name)
      if handler is None:
        raise PlainPickleError(_refusal(step.name, argument))
      handler(self, argument)

  def _read_argument(self, step: pickletools.OpcodeInfo) -> Any:
    if step.arg is None:
      return None
    if step.name in ("STRING", "GLOBAL", "INST", "PERSID"):  # which pickletools takes for ASCII with Python's escapes
      lines = [self._read_line() for _ in range(2 if step.name in ("GLOBAL", "INST") else 1)]
      return _unquote(lines[0]) if step.name == "STRING" else b".".join(lines).decode("latin-1")
    try:
      return step.arg.reader(self._file)
    except ValueError as error:
      if self._file.tell() >= self._length and not isinstance(error, UnicodeError):
        raise PlainPickleError("it ends early, as a file that was cut short") from None
      raise

  def _read_line(self) -> bytes:
    line = self._file.readline()
    if not line.endswith(b"\n"):
      raise PlainPickleError("it ends early, as a file that was cut short")
    return line[:-1]

  def _spend(self, steps: int) -> None:
    self._left -= steps
    if self._left < 0:
      raise PlainPickleError(f"it has more than {MOST_STEPS:,} steps and numbers, far more than a ground truth needs")

  def _finish(self) -> Any:
    value = self.pop()
    if self._stack or self._marks or self._file.tell() != self._length:
      raise PlainPickleError("it is no pickle, or a damaged one: something follows its value")
    if not isinstance(value, (*_PLAIN, list, tuple, dict)):
      raise PlainPickleError("its value is neither plain nor a NumPy array")
    return value

  # What the steps do. Each takes the step's argument.

  def push(self, value: Any) -> None:
    self._stack.append(value)

  def mark(self) -> None:
    self._marks.append(len(self._stack))

  def top(self) -> Any:
    if len(self._stack) <= (self._marks[-1] if self._marks else 0):
      raise ValueError("a step lacks its value")
    return self._stack[-1]

  def pop(self) -> Any:
    value = self.top()
    del self._stack[-1]
    return value

  def pop_marked(self) -> list[Any]:
    start = self._marks.pop()
    values = self._stack[start:]
    del self._stack[start:]
    return values

  def check_protocol(self, protocol: int) -> None:
    if protocol > 5:
      raise PlainPickleError(f"it is of protocol {protocol}; known are 0 to 5")

  def note(self, number: int | None) -> None:
    number = len(self._notes) if number is None else number
    value = self.top()
    self._notes[number] = value
    if isinstance(value, UnfilledArray):
      value.notes.append(number)

  def recall(self, number: int) -> None:
    self.push(self._notes[number])

  def append(self, values: list[Any]) -> None:
    if not isinstance(self.top(), list):
      raise TypeError("values are appended to something that is no list")
    self.top().extend(values)

  def set_items(self, values: list[Any]) -> None:
    target = self.top()
    if not isinstance(target, dict) or len(values) % 2:
      raise TypeError("keys and values are set in something that is no dictionary, or are not pairs")
    if not all(isinstance(key, _PLAIN) for key in values[::2]):
      raise PlainPickleError("a dictionary has a key that is neither text nor number")
    target.update(zip(values[::2], values[1::2], strict=True))

  def make_dict(self) -> None:
    values = self.pop_marked()
    self.push({})
    self.set_items(values)

  def make_tuple(self, count: int) -> None:
    self.push(tuple([self.pop() for _ in range(count)][::-1]))

  def name_global(self, name: str) -> None:
    if name not in NAMES:
      raise PlainPickleError(f"it holds code: {_show(name)}")
    self.push(NAMES[name])

  def name_stacked(self) -> None:
    name, module = self.pop(), self.pop()
    if not isinstance(name, str) or not isinstance(module, str):
      raise TypeError("the name of a global is no text")
    self.name_global(f"{module}.{name}")

  def call(self) -> None:
    arguments, called = self.pop(), self.pop()
    if not callable(called) or not isinstance(arguments, tuple):
      raise TypeError("something is called that cannot be")
    self.push(called(self._spend, *arguments))

  def build(self) -> None:
    state, built = self.pop(), self.top()
    if isinstance(built, ArrayType):
      built.set_state(state)
      return
    if not isinstance(built, UnfilledArray):
      raise TypeError("the state of something that has none")
    self._stack[-1] = values = fill_array(self._spend, state)
    for number in built.notes:
      self._notes[number] = values


_STEPS: dict[str, Callable[[_Reader, Any], None]] = {
  "PROTO": _Reader.check_protocol,
  "FRAME": lambda reader, _: None,
  "NONE": lambda reader, _: reader.push(None),
  "NEWTRUE": lambda reader, _: reader.push(True),
  "NEWFALSE": lambda reader, _: reader.push(False),
  **dict.fromkeys(
    (
      *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
      *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
      *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    ),
    _Reader.push,
  ),
  "MARK": lambda reader, _: reader.mark(),
  "EMPTY_LIST": lambda reader, _: reader.push([]),
  "LIST": lambda reader, _: reader.push(reader.pop_marked()),
  "APPEND": lambda reader, _: reader.append([reader.pop()]),
  "APPENDS": lambda reader, _: reader.append(reader.pop_marked()),
  "EMPTY_DICT": lambda reader, _: reader.push({}),
  "DICT": lambda reader, _: reader.make_dict(),
  "SETITEM": lambda reader, _: reader.set_items([reader.pop(), reader.pop()][::-1]),
  "SETITEMS": lambda reader, _: reader.set_items(reader.pop_marked()),
  "EMPTY_TUPLE": lambda reader, _: reader.push(()),
  "TUPLE": lambda reader, _: reader.push(tuple(reader.pop_marked())),
  "TUPLE1": lambda reader, _: reader.make_tuple(1),
  "TUPLE2": lambda reader, _: reader.make_tuple(2),
  "TUPLE3": lambda reader, _: reader.make_tuple(3),
  **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Reader.note),
  **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Reader.recall),
  "GLOBAL": _Reader.name_global,
  "STACK_GLOBAL": lambda reader, _: reader.name_stacked(),
  "REDUCE": lambda reader, _: reader.call(),
  "BUILD": lambda reader, _: reader.build(),
}
"""What is done at each step that there is; a step that is not here is refused."""


def _refusal(step: str, argument: Any) -> str:
  if step == "INST":
    return f"it holds code: {_show(argument)}"
  if step.startswith("EXT"):
    return f"it holds code: the registered extension {argument}"
  if "PERSID" in step:
    return "it refers to something outside of it (a persistent id)"
  if step.endswith("_BUFFER"):
    return "it refers to something outside of it (a buffer)"
  return f"it holds something else than plain values (the step {step})"


def _show(name: str) -> str:
  return ascii(name)[1:-1][:100]


def _unquote(line: bytes) -> str:
  """A text as Python 2 wrote it."""
  text = line.strip()
  if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
    raise ValueError("a text is not in quotes")

  def unescape(match: re.Match) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else _ESCAPES[match[2]]

  return _ESCAPED.sub(unescape, text[1:-1]).decode("latin-1")
