"""Code is told apart by what it does: its text, and that of what it stands on."""

import functools
import importlib
import sys

import numpy as np
import pytest

from cwf_jax.evaluation.code_digest import digest_code, digest_package
from cwf_jax.evaluation.systems import SYSTEMS

MODULE = '''
import functools
import math
import numpy as np

FACTOR = 2
TABLE = {"a": [1, 2]}
GRID = np.arange(3)

class Scale:
  by = 1
  def apply(self, x):
    return helper(x)

def helper(x):
  """Doubles."""
  return x * FACTOR

def decorated(function):
  @functools.wraps(function)
  def inner(x):
    return function(x)
  return inner

@decorated
def wrapped(x):
  return x + 1

def again(x, depth=3):
  return x if depth == 0 else again(x, depth - 1)

def unrelated(x):
  return x

def pool(x, power=3):
  # a comment
  return [helper(wrapped(y)) + TABLE["a"][0] + GRID[0] + math.pi for y in again(x)], Scale().apply(x)
'''


@pytest.fixture
def digest(tmp_path, monkeypatch):
  """The digest of `pool` in a module of that text."""
  folders = (tmp_path / str(number) for number in range(10))

  def load(text):
    folder = next(folders)
    folder.mkdir()
    (folder / "poolings.py").write_text(text)
    with monkeypatch.context() as patch:
      patch.syspath_prepend(folder)
      sys.modules.pop("poolings", None)
      found = digest_code(importlib.import_module("poolings").pool)
    sys.modules.pop("poolings", None)
    return found

  return load


@pytest.mark.parametrize(
  ("old", "new"),
  [
    ("x * FACTOR", "x * FACTOR * 1"),  # a helper
    ("FACTOR = 2", "FACTOR = 3"),  # a constant of a helper
    ('{"a": [1, 2]}', '{"a": [1, 3]}'),
    ("np.arange(3)", "np.arange(4)"),
    ("return x + 1", "return x + 2"),  # under a decorator
    ("depth=3", "depth=4"),  # a default of what calls itself
    ("power=3", "power=2"),
    ("return helper(x)", "return -helper(x)"),  # a method
    ("for y in again(x)", "for y in again(x, 2)"),
  ],
)
def test_what_it_stands_on_counts(digest, old, new):
  assert MODULE.count(old) == 1
  assert digest(MODULE) == digest(MODULE) != digest(MODULE.replace(old, new))


@pytest.mark.parametrize(
  ("old", "new"),
  [
    ("  # a comment\n", ""),
    ('"""Doubles."""', '"""Makes it twice as much."""'),
    ("x * FACTOR", "(x  *  FACTOR)"),
    ("def unrelated(x):\n  return x", "def unrelated(x):\n  return -x"),
  ],
)
def test_what_changes_nothing_does_not(digest, old, new):
  assert MODULE.count(old) == 1
  assert digest(MODULE) == digest(MODULE.replace(old, new))


def test_values_closed_over_and_arguments_of_partials():
  def make(power, table=()):
    return lambda x: x**power + len(table)

  def power(x, exponent):
    return x**exponent

  assert digest_code(make(2)) == digest_code(make(2)) != digest_code(make(3))
  assert digest_code(make(2, np.arange(2))) != digest_code(make(2, np.arange(1, 3)))
  partial = [digest_code(functools.partial(power, exponent=exponent)) for exponent in (2, 2, 3)]
  assert partial[0] == partial[1] != partial[2]


def test_functions_that_were_typed_in():
  scope = {}
  for name, text in {"a": "x + 1", "b": "x + 2", "c": "x + 1"}.items():
    exec(f"def typed(x): return {text}", scope)
    scope[name] = scope.pop("typed")
  digests = {name: digest_code(scope[name]) for name in "abc"}
  assert digests["a"] == digests["c"] != digests["b"]


def test_every_system_has_its_own():
  digests = {system.digest for system in SYSTEMS.values()}
  assert len(digests) == len(SYSTEMS)


def test_a_package_has_one():
  assert len(digest_package()) == 64 and digest_package() == digest_package()
