"""Programs that were compiled by one test, or by a process that it started, are there for the next."""

import shutil

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

CACHE = {"jax_compilation_cache_dir": None, "jax_persistent_cache_min_compile_time_secs": 0.0}


@pytest.fixture(scope="module", autouse=True)
def compiled_programs(tmp_path_factory):
  """JAX's persistent cache, in a folder of the session."""
  folder = tmp_path_factory.getbasetemp() / "compiled"
  before = {name: getattr(jax.config, name) for name in CACHE}
  for name, value in (CACHE | {"jax_compilation_cache_dir": str(folder)}).items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


@pytest.fixture
def copied(photographs, tmp_path):
  """The photographs where they may be changed."""
  return shutil.copytree(photographs, tmp_path / "copied")
