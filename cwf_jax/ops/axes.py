"""Axes are checked when a function is traced, against the names in its own signature.

    @check_axes()
    def pool(features: Float[Array, "b i j k"], channel_weights: Float[Array, "b k"]) -> Float[Array, "b k"]:
      ...

    pool(jnp.ones((2, 3, 4, 512)), jnp.ones((2, 256)))
    # ValueError: pool: channel_weights [b k] has the shape (2, 256): k is 512 in features [b i j k]

A check costs nothing in a compiled program: shapes are known before there is one.
"""

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable
from typing import Any

LARGEST_SIZE = 2**31 - 1
"""Of an axis, and of a map, `i` times `j`: cells and rows are counted in int32."""


def check_axes(empty: str = "") -> Callable:
  """Makes a function refuse arrays whose axes are not what its annotations say.

  Args:
    empty: names of axes that may have no elements, separated by spaces; the others have one at least.

  Raises:
    ValueError: when the function is called or traced: a wrong rank, axes of one name and several sizes, an empty axis, or
      one that is too long. The message names function (without a leading underscore), argument and axis.
  """
  allowed = frozenset(empty.split())

  def decorate(function: Callable) -> Callable:
    signature = inspect.signature(function)
    expected = {name: _list_axes(parameter.annotation) for name, parameter in signature.parameters.items()}
    expected = {name: choices for name, choices in expected.items() if choices}

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
      bound = signature.bind(*args, **kwargs)
      known: dict[str, tuple[Any, str]] = {}
      for name, choices in expected.items():
        shape = getattr(bound.arguments.get(name), "shape", None)
        if shape is not None:
          _check_shape(f"{function.__name__.lstrip('_')}: {name}", tuple(shape), choices, known, allowed)
      return function(*args, **kwargs)

    return checked

  return decorate


def _list_axes(annotation: Any) -> tuple[tuple[str, ...], ...]:
  """The names of an annotation's axes, of each alternative; nothing where it is no array's."""
  if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
    found = [axes for part in typing.get_args(annotation) for axes in _list_axes(part)]
    return tuple(dict.fromkeys(found))
  text = getattr(annotation, "dim_str", None)
  return () if text is None else (tuple(text.split()),)


def _check_shape(
  place: str,
  shape: tuple[Any, ...],
  choices: tuple[tuple[str, ...], ...],
  known: dict[str, tuple[Any, str]],
  allowed: frozenset[str],
) -> None:
  fitting = [axes for axes in choices if len(axes) == len(shape) or (axes[:1] == ("...",) and len(axes) <= len(shape) + 1)]
  if not fitting:
    raise ValueError(f"{place} is {' or '.join(map(_show, choices))}; found the shape {shape}")
  axes = fitting[0]
  found = f"{place} {_show(axes)} has the shape {shape}"
  for axis, size in zip(reversed(axes), reversed(shape), strict=False):
    if axis == "...":
      break
    if axis.isdecimal():
      if size != int(axis):
        raise ValueError(f"{found}: the axis that is {axis} has {size}")
      continue
    before, source = known.setdefault(axis, (size, f"{place.split(': ')[1]} {_show(axes)}"))
    if size != before:
      raise ValueError(f"{found}: {axis} is {before} in {source}")
    if size == 0 and axis not in allowed:
      raise ValueError(f"{found}: {axis} is 0, and there must be one at least")
    if isinstance(size, int) and size > LARGEST_SIZE:  # a size that an exported program leaves open cannot be compared
      raise ValueError(f"{found}: {axis} is {size}, and at most {LARGEST_SIZE} can be counted")
  if {"i", "j"} <= set(axes):
    cells = math.prod(shape[axes.index(axis) - len(axes)] for axis in "ij")
    if isinstance(cells, int) and cells > LARGEST_SIZE:
      raise ValueError(f"{found}: i j is {cells}, and at most {LARGEST_SIZE} can be counted")


def _show(axes: tuple[str, ...]) -> str:
  return f"[{' '.join(axes)}]"
