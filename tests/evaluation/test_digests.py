"""Code is told apart by what it does: its compiled form, and that of what it stands on."""

import ast
import functools
import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import cwf_jax
from cwf_jax.evaluation import experiment, seeing
from cwf_jax.evaluation.digests import digest_code, digest_files
from cwf_jax.evaluation.systems import SYSTEMS

MODULE = '''
import collections
import dataclasses
import enum
import functools
import math
import typing
import jax
import numpy as np
import helpers

FACTOR = 2
TABLE = {"a": [1, 2], "b": 3, "c": 4, "d": 5}
NESTED = ((1, 2), {"x": {"y": (6, 7)}})
GRID = np.arange(3)
TRAINED = jax.numpy.arange(3.0)

class Base:
  def inherited(self, x):
    return x - 9

class Scale(Base):
  by = 17
  def apply(self, x):
    return helper(x)
  @functools.cached_property
  def cached(self):
    return 18
  @property
  def plain(self):
    return 19
  @staticmethod
  def still(x):
    return x + 20

@dataclasses.dataclass(frozen=True)
class Options:
  exponent: float

OPTIONS = Options(21.0)

class Callable:
  def __init__(self, by):
    self.by = by
  def __call__(self, x):
    return x * 22 + self.by

CALL = Callable(23)

class Config(typing.NamedTuple):
  base: float
  def weigh(self, x):
    return x * 31

class Numbers(list):
  def weigh(self, x):
    return x * 32

class Kind(enum.IntEnum):
  FIRST = 33
  def weigh(self, x):
    return x * 34

class Slotted:
  __slots__ = ("__by",)
  def __init__(self):
    self.__by = 35

class Updated:
  def __init__(self, function, by):
    functools.update_wrapper(self, function)
    self.by = by
  def __call__(self, x):
    return self.__wrapped__(x) * self.by

class Meta(type):
  def weigh(cls, x):
    return x * 36

class Made(metaclass=Meta):
  pass

def mapped(x):
  return x * 37

NUMBERS = Numbers([1])
NUMBERS.extra = 38
DEQUE = collections.deque([mapped, 39])
OTHERS = Config(1.0), NUMBERS, Kind.FIRST, Slotted(), Updated(mapped, 40), Made, DEQUE
vmapped = jax.vmap(lambda x, y: x * y, in_axes=(None, 0))
vectorized = np.vectorize(lambda x: x * 41)
mapped.by = 42
jitted = jax.jit(functools.partial(lambda x, a: x * a, a=24))
bound = CALL.__call__

def helper(x):
  """Doubles."""
  return x * FACTOR

def decorated(by):
  def decorate(function):
    @functools.wraps(function)
    def inner(x):
      return function(x) * by * 25
    return inner
  return decorate

@decorated(26)
def wrapped(x):
  return x + 1

def again(x, depth=3):
  return x if depth == 0 else again(x, depth - 1)

def unrelated(x):
  return x

def pool(x, power=3):
  # a comment
  from poolings.other_helpers import assist
  try:
    x = helper(x)
  except ValueError:
    x = again(x)
  used = OTHERS, vmapped, vectorized
  used += TABLE, NESTED, GRID, TRAINED, OPTIONS, CALL, jitted, bound, helpers.help, assist
  return [helper(wrapped(y)) + math.pi + (lambda z: z + 27)(y) for y in again(x)], Scale().apply(x), used
'''

HELPERS = {"helpers": "def help(x):\n  return x + 28\n", "other_helpers": "def assist(x):\n  return x + 29\n"}


@pytest.fixture
def digest(tmp_path, monkeypatch):
  """The digest of `pool` in a module of that text."""
  folders = (tmp_path / str(number) for number in range(10))

  def load(text, edit=("", "")):
    folder = next(folders)
    folder.mkdir()
    (folder / "poolings").mkdir()
    (folder / "poolings" / "__init__.py").touch()
    for name, content in {"main": text, **HELPERS}.items():
      content = content if name == "main" else content.replace(*edit)
      (folder / "poolings" / f"{name}.py").write_text(content.replace("import helpers", "from poolings import helpers"))
    with monkeypatch.context() as patch:
      patch.syspath_prepend(folder)
      importlib.import_module("poolings.other_helpers")
      found = digest_code(importlib.import_module("poolings.main").pool)
    for name in [name for name in sys.modules if name.partition(".")[0] == "poolings"]:
      sys.modules.pop(name)
    return found

  return load


@pytest.mark.parametrize(
  ("old", "new"),
  [
    ("x * FACTOR", "x * FACTOR * 1"),  # a helper
    ("FACTOR = 2", "FACTOR = 3"),  # a constant of a helper
    ('"a": [1, 2]', '"a": [1, 3]'),
    ('"d": 5', '"d": 6'),
    ("(6, 7)", "(6, 8)"),
    ("np.arange(3)", "np.arange(4)"),
    ("arange(3.0)", "arange(1.0, 4.0)"),  # an array of JAX
    ("x - 9", "x - 8"),  # of a class above
    ("by = 17", "by = 16"),
    ("return 18", "return 17"),
    ("return 19", "return 18"),
    ("x + 20", "x + 21"),
    ("Options(21.0)", "Options(22.0)"),
    ("x * 22", "x * 21"),
    ("Callable(23)", "Callable(24)"),
    ("a=24", "a=25"),  # of a partial under jit
    ("by * 25", "by * 24"),  # of what decorates
    ("decorated(26)", "decorated(27)"),
    ("z + 27", "z + 26"),  # a function inside it
    ("x * 31", "x * 30"),  # a method of a tuple with names
    ("Config(1.0)", "Config(2.0)"),
    ("x * 32", "x * 31"),  # of a list
    ("extra = 38", "extra = 37"),
    ("FIRST = 33", "FIRST = 32"),
    ("x * 34", "x * 33"),
    ("__by = 35", "__by = 36"),  # in a slot
    ("mapped, 40", "mapped, 41"),  # an object that is called as what it wraps
    ("x * 36", "x * 35"),  # of a class of classes
    ("x * 37", "x * 36"),
    ("mapped, 39", "mapped, 40"),
    ("(None, 0)", "(0, None)"),  # of another package's function that wraps one of its own
    ("x * 41", "x * 40"),
    ("mapped.by = 42", "mapped.by = 43"),
    ("  except ValueError:\n    x = again(x)\n", "  except ValueError:\n    x = again(x)\n  else:\n    x = again(x)\n"),
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


@pytest.mark.parametrize("edit", [("x + 28", "x + 29"), ("x + 29", "x + 30")])
def test_functions_of_its_own_package_count(digest, edit):
  assert digest(MODULE) != digest(MODULE, edit)


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
  for array in (np.asarray, jnp.asarray):
    assert digest_code(make(2, array([0, 1]))) == digest_code(make(2, array([0, 1]))) != digest_code(make(2, array([1, 2])))
  partials = [digest_code(functools.partial(power, exponent=exponent)) for exponent in (2, 2, 3)]
  assert partials[0] == partials[1] != partials[2]
  several = [digest_code(functools.partial(power, a=1, b=2, c=last, d=4)) for last in (3, 3, 5)]
  assert several[0] == several[1] != several[2]
  one, other = (lambda x: x), (lambda x: -x)
  assert digest_code(one) != digest_code(other)


def test_what_cannot_be_told_apart_is_never_the_same():
  def make(key):
    return lambda x: (x, key)

  locks = threading.Lock(), threading.Lock()
  assert digest_code(make(locks[0])) != digest_code(make(locks[0])) != digest_code(make(locks[1]))
  with pytest.raises(ValueError, match="functions are wanted"):
    digest_code("pool")


def test_functions_that_were_typed_in():
  scope = {}
  for name, text in {"a": "sum((1, x))", "b": "sum((2, x))", "c": "sum((1, x))"}.items():
    exec(f"def typed(x): return (lambda: {text})()", scope)
    scope[name] = scope.pop("typed")
  digests = {name: digest_code(scope[name]) for name in "abc"}
  assert digests["a"] == digests["c"] != digests["b"]


def test_files_and_folders_of_the_package():
  assert digest_files("images", "encoder.py") == digest_files("encoder.py", "images") != digest_files("images")
  with pytest.raises(ValueError, match=r"^no modules are in imagse, encoder$"):
    digest_files("imagse", "encoder", "images")


def test_other_processes_give_the_same():
  program = """
from cwf_jax.evaluation.systems import SYSTEMS
from cwf_jax.evaluation.descriptors import describe
from cwf_jax.evaluation.digests import digest_code
from cwf_jax.evaluation.fitting import fit_whitening
print(*[system.digest for system in SYSTEMS.values()], digest_code(fit_whitening, describe))
"""
  found = []
  for seed in ("7", "8"):  # in the tests' own process functions are wrapped by checks of their shapes
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    found.append(done.stdout.split())
  assert found[0] == found[1] and len(set(found[0])) == len(SYSTEMS) + 1


OTHER_CODE = {
  "passes": {
    "datasets/problems.py", "errors.py", "evaluation/benchmark.py", "evaluation/digests.py", "evaluation/provenance.py",
    "evaluation/settings.py", "evaluation/systems.py", "evaluation/vectors.py", "indexing/build.py", "datasets/tar_images.py",
    "ops/aggregation.py", "ops/pooling.py", "ops/weighting.py", "ops/whitening.py", "home.py",
  },
  "ranking": {
    "datasets", "encoder.py", "errors.py", "evaluation/cells.py", "evaluation/digests.py", "evaluation/folder_check.py",
    "evaluation/images.py", "evaluation/passes.py", "evaluation/provenance.py", "evaluation/seeing.py",
    "evaluation/settings.py", "evaluation/systems.py", "images", "models", "protocol.py", "writing.py",
  },
}  # fmt: skip
"""What the code of passes and of rows imports and does not compute them: messages, files, what has a digest of its own."""


@pytest.mark.parametrize(("part", "listed"), [("passes", seeing.PASSES), ("ranking", experiment.RANKING)])
def test_every_module_that_computes_is_listed(part, listed):
  root = Path(cwf_jax.__file__).parent
  files = [path for name in listed for path in ((root / name).rglob("*.py") if (root / name).is_dir() else [root / name])]
  known = {*listed, *OTHER_CODE[part]}
  imported = {name for path in files for name in _imports(path, root)}
  assert {name for name in imported if name not in known and name.partition("/")[0] not in known} == set()
  assert OTHER_CODE[part] <= {*imported, *(name.partition("/")[0] for name in imported)}


def _imports(path, root):
  """The modules of the package that a file imports, as paths."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "cwf_jax":
      for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
        found = root.joinpath(*name.split(".")[1:]).with_suffix(".py")
        if found.is_file():
          yield found.relative_to(root).as_posix()


def test_what_an_exception_is_caught_of_counts():
  texts = (
    "def typed(f, g, x):\n  try:\n    y = f(x)\n    z = g(y)\n  except ValueError:\n    z = 0\n  return z\n",
    "def typed(f, g, x):\n  try:\n    y = f(x)\n  except ValueError:\n    z = 0\n  else:\n    z = g(y)\n  return z\n",
  )
  digests = []
  for text in texts:
    scope = {}
    exec(text, scope)
    digests.append(digest_code(scope["typed"]))
  assert digests[0] != digests[1]
