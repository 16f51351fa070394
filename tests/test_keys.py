"""Keys of stored results: what changes them and what does not."""

import importlib.util
import sys

import pytest

from cwf_jax import keys
from cwf_jax.keys import hash_function, hash_sources, make_key
from cwf_jax.systems.system import SYSTEMS


def test_values_and_the_version_make_a_key(monkeypatch):
  first = make_key("raw", 720, {"b": 1, "a": [None]})
  assert first == make_key("raw", 720, {"a": [None], "b": 1}) != make_key("raw", 721, {"a": [None], "b": 1})
  monkeypatch.setattr(keys, "__version__", "another")
  assert make_key("raw", 720, {"b": 1, "a": [None]}) != first


def test_an_edited_module_changes_the_key_of_its_folder(tmp_path, monkeypatch):
  monkeypatch.setattr(keys, "_ROOT", tmp_path)
  (tmp_path / "ops" / "inner").mkdir(parents=True)
  found = set()
  for content in ("x = 1\n", "x = 2\n"):
    (tmp_path / "ops" / "inner" / "a.py").write_text(content)
    hash_sources.cache_clear()
    found |= {hash_sources("ops"), hash_sources("ops/inner/a.py", "ops")}
  assert len(found) == 4
  with pytest.raises(ValueError, match="the package has no modules in gone"):
    hash_sources("gone")
  hash_sources.cache_clear()


def test_the_package_has_every_module_that_is_hashed():
  assert len({hash_sources("images"), hash_sources("ops"), hash_sources("encoder.py")}) == 3


def test_a_function_is_hashed_by_its_source(tmp_path):
  pools = [system.pool for system in SYSTEMS.values() if system.pool is not None]
  assert len({hash_function(pool) for pool in pools}) == len(set(pools))
  typed = {}
  exec("def pool(x):\n  return x\n", typed)
  assert hash_function(typed["pool"]) == hash_function(typed["pool"])


def test_a_function_of_ones_own_is_hashed_with_its_whole_file(tmp_path):
  """What it calls beside it counts too."""
  found = set()
  for number, helper in enumerate(("x + 1", "x + 2", "x + 1")):
    path = tmp_path / f"plugin{number}.py"
    path.write_text(f"def helper(x):\n  return {helper}\n\n\ndef pool(x):\n  return helper(x)\n\n\ndef other(x):\n  return x\n")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    found.add(hash_function(module.pool))
    assert hash_function(module.other) not in found
    del sys.modules[path.stem]
  assert len(found) == 2
