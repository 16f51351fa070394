"""A system from a user's file: loaded, indexed, searched and evaluated by; and every file that is none."""

import pytest

from cwf_jax.errors import InputError
from cwf_jax.systems.plugin import load_plugin
from cwf_jax.systems.system import SYSTEMS

MEAN = """
from cwf_jax.ops.pooling import pool_gem
from cwf_jax.systems.system import CELLS, PAPER, SYSTEMS, System

def pool(seen):
  return pool_gem(seen.features, seen.mask, exponent=1.0)

SYSTEMS["mean"] = System("mean pooling", "any", "features", PAPER, CELLS, pool)
"""


@pytest.fixture(autouse=True)
def systems(monkeypatch):
  """What a test adds is gone after it."""
  before = dict(SYSTEMS)
  yield
  SYSTEMS.clear()
  SYSTEMS.update(before)


def test_a_plugin_adds_a_system(tmp_path):
  (tmp_path / "mine.py").write_text(MEAN)
  assert load_plugin(str(tmp_path / "mine.py")) == ("mean",) and SYSTEMS["mean"].title == "mean pooling"


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (None, "there is no file"),
    ("1 / 0", "fails: ZeroDivisionError: division by zero"),
    ("x = (", "fails: SyntaxError"),
    ("x = 1", "adds no system"),
  ],
)
def test_a_file_that_is_no_plugin_is_refused(tmp_path, content, message):
  if content is not None:
    (tmp_path / "mine.py").write_text(content)
  with pytest.raises(InputError, match=message):
    load_plugin(str(tmp_path / "mine.py"))
