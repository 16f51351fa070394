"""What code does, told apart by its text: so that what another function has computed is not taken for this one's.

    digest_code(pool_crow)     # another one after pool_crow, or anything of this package that it calls, is edited
    digest_package()           # another one after any module of this package is edited
"""

import ast
import functools
import hashlib
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = __name__.partition(".")[0]

_PLAIN = (int, float, complex, str, bytes, bool, type(None))


@functools.cache
def digest_package() -> str:
  """SHA-256, in hexadecimal, of all modules of this package."""
  root, content = Path(__file__).parents[1], hashlib.sha256()
  for path in sorted(root.rglob("*.py")):
    content.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
  return content.hexdigest()


def digest_code(*functions: Callable) -> str:
  """SHA-256, in hexadecimal, of what functions stand on: their text, and that of all functions and classes that they name, as
  far as those are of this package or of the functions' own modules; constants, defaults, values closed over.

  Comments, docstrings and layout do not count. Code that is reached through an object, as by `seen.encoder.activate()`, does
  not either: the package's version stands for it.
  """
  content, visited = hashlib.sha256(), set()
  for function in functions:
    for line in _describe(function, {PACKAGE, _package_of(inspect.unwrap(function))}, visited):
      content.update(f"{line}\n".encode("utf-8", "surrogatepass"))
  return content.hexdigest()


def _describe(value: Any, packages: set[str], visited: set[int]) -> Iterator[str]:
  """Lines that tell a value apart; what was visited is told by its name alone."""
  if isinstance(value, _PLAIN):
    yield repr(value)
  elif isinstance(value, np.ndarray | np.generic):
    yield f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
  elif isinstance(value, list | tuple | set | frozenset | dict):
    yield type(value).__name__
    items = value.items() if isinstance(value, dict) else value
    ordered = sorted(items, key=repr) if isinstance(value, set | frozenset) else items
    for item in ordered if _is_new(value, visited) else ():
      yield from _describe(item, packages, visited)
  elif isinstance(value, functools.partial):
    for part in (value.func, value.args, value.keywords):
      yield from _describe(part, packages, visited)
  else:
    yield from _describe_code(inspect.unwrap(value) if callable(value) else value, packages, visited)


def _describe_code(value: Any, packages: set[str], visited: set[int]) -> Iterator[str]:
  """A function, a class, or the name of anything else."""
  function = getattr(value, "__func__", value)
  function = getattr(function, "fget", None) or getattr(function, "func", None) or function  # a property, a cached one
  yield f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
  if _package_of(function) not in packages or not _is_new(function, visited):
    return
  if isinstance(function, types.FunctionType):
    yield _text_of(function)
    closed = (cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell))
    for part in (function.__defaults__, function.__kwdefaults__, *closed, *_named_by(function)):
      yield from _describe(part, packages, visited)
  elif isinstance(function, type):
    yield from (base.__qualname__ for base in function.__mro__)
    for name, member in sorted(vars(function).items()):
      if callable(member) or hasattr(member, "__func__") or hasattr(member, "fget"):
        yield name
        yield from _describe_code(inspect.unwrap(member) if callable(member) else member, packages, visited)


def _package_of(value: Any) -> str:
  """The first part of its module's name; empty where it has none, as of what was typed in."""
  return (getattr(value, "__module__", None) or "").partition(".")[0]


def _is_new(value: Any, visited: set[int]) -> bool:
  """Whether it was not visited before, which it is from now on."""
  is_new = id(value) not in visited
  visited.add(id(value))
  return is_new


def _is_filled(cell: types.CellType) -> bool:
  try:
    return cell.cell_contents is not cell
  except ValueError:  # of a name that has no value yet
    return False


def _text_of(function: types.FunctionType) -> str:
  """Without comments and docstrings; of a function that was typed in, its compiled form."""
  try:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
  except (OSError, TypeError, SyntaxError):  # a lambda may stand in the middle of a line
    code = function.__code__
    return f"{code.co_code.hex()} {[const for const in code.co_consts if isinstance(const, _PLAIN)]} {code.co_names}"
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
      node.body = node.body[1:] or [ast.Pass()]
  return ast.unparse(tree)


def _named_by(function: types.FunctionType) -> Iterator[Any]:
  """What the global names that a function uses stand for; of a module of the package, what is named with it."""
  names = sorted({name for code in _list_codes(function.__code__) for name in code.co_names})
  for name in names:
    value = function.__globals__.get(name)
    if isinstance(value, types.ModuleType):
      if value.__name__.partition(".")[0] == PACKAGE:
        yield from (getattr(value, other) for other in names if hasattr(value, other))
    elif value is not None:
      yield value


def _list_codes(code: types.CodeType) -> Iterator[types.CodeType]:
  """A function's code, and that of the functions inside it."""
  yield code
  for const in code.co_consts:
    if isinstance(const, types.CodeType):
      yield from _list_codes(const)
