"""Names for what is computed, by all that it depends on: values, files, and what code does.

    digest_of("raw", 720, [1, 2])
    digest_code(pool_crow)                   # another one after pool_crow, or anything that it calls, is another
    digest_files("images", "encoder.py")     # another one after a file of these is edited
"""

import copyreg
import functools
import hashlib
import inspect
import json
import pickle
import sys
import types
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cwf_jax.version import __version__

_ROOT = Path(__file__).parents[1]
_PACKAGE = __name__.partition(".")[0]

# Of the files as they were when this module was imported: an edit while a run goes on is none of what it runs.
_FILES = {
  path.relative_to(_ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
  for path in _ROOT.rglob("*.py")
  if path.is_file() and not any(part.startswith(".") for part in path.relative_to(_ROOT).parts)  # editors leave such
}

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))

_OF_EVERY_CLASS = frozenset((
  *("__annotations__", "__annotate__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__static_attributes__"),
  *("__weakref__", "__dataclass_fields__", "__dataclass_params__"),
))
"""Members of classes that say nothing of what they do."""


def digest_of(*parts: Any) -> str:
  """Names plain values by their content, and the version of the package that makes something of them."""
  return hashlib.sha256(json.dumps((__version__, *parts), sort_keys=True).encode()).hexdigest()


def digest_files(*names: str) -> str:
  """SHA-256, in hexadecimal, of modules of this package: files, and all in folders, as paths below it.

  Raises:
    ValueError: there is no such file or folder.
  """
  found = {name: [path for path in sorted(_FILES) if path == name or path.startswith(f"{name}/")] for name in names}
  empty = [name for name, paths in found.items() if not paths]
  if empty:
    raise ValueError(f"no modules are in {', '.join(empty)}")
  lines = (f"{path} {_FILES[path]}\n" for path in sorted({path for paths in found.values() for path in paths}))
  return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_code(*functions: Callable) -> str:
  """SHA-256, in hexadecimal, of what functions stand on: their compiled form, and that of all functions and classes that they
  name, as far as these are of this package or of the functions' own; constants, arrays, defaults, values closed over.

  Comments, docstrings and layout do not count, and another version of Python compiles otherwise. What is reached through an
  argument, as by `seen.encoder.activate()`, is not seen. A value that cannot be told apart is another one in each process.

  Raises:
    ValueError: one of them is no function.
  """
  if not all(map(callable, functions)):
    raise ValueError(f"functions are wanted; found {functions}")
  walk, content = _Walk(functions), hashlib.sha256()
  for function in functions:
    for line in walk.describe(function):
      content.update(f"{line}\n".encode("utf-8", "surrogatepass"))
  return content.hexdigest()


class _Walk:
  """Lines that tell values apart, each value described once."""

  def __init__(self, functions: tuple[Callable, ...]):
    self._packages = {_PACKAGE, *map(_package_of, functions)}
    self._seen: dict[int, tuple[int, Any]] = {}  # the values stay alive, so that no other one gets their id

  def describe(self, value: Any) -> Iterator[str]:
    if type(value) in _PLAIN:
      yield repr(value)
    elif id(value) in self._seen:
      yield f"again {self._seen[id(value)][0]}"
    else:
      if not isinstance(value, tuple | frozenset):  # equal ones may be one or two, as the compiler likes, and none holds itself
        self._seen[id(value)] = len(self._seen), value
      yield type(value).__qualname__
      if not isinstance(value, type | types.FunctionType) and _package_of(type(value)) in self._packages:
        yield from self._describe_all((type(value), _list_attributes(value), _list_slots(value)))
      yield from self._describe_new(value)

  def _describe_new(self, value: Any) -> Iterator[str]:
    if isinstance(value, _PLAIN):
      yield repr(value)
    elif isinstance(value, dict):
      yield from self._describe_all(part for pair in value.items() for part in pair)
    elif isinstance(value, list | tuple):
      yield from self._describe_all(value)
    elif isinstance(value, set | frozenset):
      yield from self._describe_all(sorted(value, key=repr))
    elif isinstance(value, types.ModuleType):
      yield value.__name__
    elif isinstance(value, types.CodeType):
      yield from self._describe_code(value, None)
    elif isinstance(value, types.FunctionType):
      yield from self._describe_function(value)
    elif isinstance(value, type):
      yield from self._describe_class(value)
    elif isinstance(value, functools.partial):
      yield from self._describe_all((value.func, value.args, value.keywords))
    elif isinstance(value, types.MethodType):
      yield from self._describe_all((value.__func__, value.__self__))
    elif isinstance(value, staticmethod | classmethod):
      yield from self.describe(value.__func__)
    elif isinstance(value, property):
      yield from self._describe_all((value.fget, value.fset))
    elif isinstance(value, functools.cached_property):
      yield from self.describe(value.func)
    elif isinstance(value, inspect.Signature):
      yield from self._describe_all((one.name, one.kind.name, one.default) for one in value.parameters.values())
    elif hasattr(value, "__wrapped__"):  # as of `jax.jit`
      yield from self.describe(value.__wrapped__)
    else:
      yield from self._describe_object(value)

  def _describe_all(self, values) -> Iterator[str]:
    for value in values:
      yield from self.describe(value)

  def _describe_function(self, function: types.FunctionType) -> Iterator[str]:
    # A decorator gives what it makes the name of what it decorates.
    yield f"{function.__globals__.get('__name__')}.{function.__code__.co_qualname}"
    if _package_of(function) not in self._packages:
      # Of another package: what it wraps, if it does, and how.
      closed = [value for value in _list_closed(function) if self._is_understood(value)]
      yield from self._describe_all((getattr(function, "__wrapped__", None), *closed))
      return
    yield from self._describe_code(function.__code__, function.__doc__)
    yield from self._describe_all((function.__defaults__, function.__kwdefaults__, *_list_closed(function)))
    yield from self.describe(_list_attributes(function))
    for name, value in _list_named(function, self._packages):
      yield name
      yield from self.describe(value)

  def _is_understood(self, value: Any) -> bool:
    """Whether it is a plain value, an array, a function or of these packages, or holds nothing else."""
    if isinstance(value, dict):
      return all(self._is_understood(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset):
      return all(map(self._is_understood, value))
    is_own = _package_of(value) in self._packages or _package_of(type(value)) in self._packages
    return is_own or isinstance(value, (*_PLAIN, types.FunctionType)) or hasattr(value, "__array__")

  def _describe_code(self, code: types.CodeType, doc: str | None) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars} {code.co_cellvars} {code.co_flags}"
    yield getattr(code, "co_exceptiontable", b"").hex()
    consts = code.co_consts
    # The docstring stands where a function without one has None.
    yield from self._describe_all((None, *consts[1:]) if doc is not None and consts and consts[0] == doc else consts)

  def _describe_class(self, one: type) -> Iterator[str]:
    yield f"{one.__module__}.{one.__qualname__}"
    if _package_of(one) in self._packages:
      yield from self._describe_all((type(one), *one.__bases__))
      for name, member in sorted(vars(one).items()):
        if name not in _OF_EVERY_CLASS:
          yield name
          yield from self.describe(member)

  def _describe_object(self, value: Any) -> Iterator[str]:
    """An array by its numbers, another package's object by what it holds or as it is pickled; others by a name used once."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    try:
      if hasattr(value, "__array__"):
        array = np.asarray(value)
        yield f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
      elif isinstance(name, str) and getattr(module, name, None) is value:  # a compiled function, an `np.ufunc`
        yield f"{module.__name__}.{name}"
      elif _package_of(type(value)) not in self._packages:
        held = [*_list_attributes(value).items(), *_list_items(value)]
        # Functions are pickled by name.
        if not (held and self._is_understood(held)):
          yield hashlib.sha256(pickle.dumps(value, protocol=4)).hexdigest()
        yield from self._describe_all(held)
    except Exception:  # whatever code of one's own raises when it is pickled or made an array
      yield uuid.uuid4().hex


def _package_of(value: Any) -> str:
  """The first part of its module's name; empty where it has none, as of what was typed in."""
  while isinstance(value, functools.partial):
    value = value.func
  name = value.__globals__.get("__name__") if isinstance(value, types.FunctionType) else getattr(value, "__module__", None)
  return (name or "").partition(".")[0]


def _list_attributes(value: Any) -> dict[str, Any]:
  """Of its dictionary, without what describes it."""
  return {name: one for name, one in getattr(value, "__dict__", {}).items() if not name.startswith("__")}


def _list_slots(value: Any) -> list[Any]:
  """Attributes that are not in an object's dictionary."""
  return [(name, getattr(value, name)) for name in sorted(copyreg._slotnames(type(value)) or ()) if hasattr(value, name)]


def _list_items(value: Any) -> list[Any]:
  """What a container of another package holds, such as a `deque`: pickled, a function in it is its name."""
  return list(value) if isinstance(value, Collection) else []


def _list_closed(function: types.FunctionType) -> list[Any]:
  """The values that a function closes over."""
  return [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]


def _is_filled(cell: types.CellType) -> bool:
  try:
    return cell.cell_contents is not cell
  except ValueError:  # of a name that has no value yet
    return False


def _list_named(function: types.FunctionType, packages: set[str]) -> list[tuple[str, Any]]:
  """What the names that a function uses stand for, outside it; of own modules, what is named with them."""
  names = sorted({name for code in _list_codes(function.__code__) for name in code.co_names})
  there = {**{name: sys.modules[name] for name in names if name in sys.modules}, **function.__globals__}
  found = [(name, there[name]) for name in names if name in there]
  values, visited = [value for _, value in found], set()
  while values:
    module = values.pop()
    is_module = isinstance(module, types.ModuleType) and module.__name__ not in visited
    if is_module and module.__name__.partition(".")[0] in packages:
      visited.add(module.__name__)
      members = [(f"{module.__name__}.{name}", vars(module)[name]) for name in names if name in vars(module)]
      found += members
      values += [value for _, value in members]
  return found


def _list_codes(code: types.CodeType) -> Iterator[types.CodeType]:
  """A function's code, and that of the functions inside it."""
  yield code
  for const in code.co_consts:
    if isinstance(const, types.CodeType):
      yield from _list_codes(const)
