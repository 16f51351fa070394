"""Calls of the command line, in this process or in one of their own, and an index to search."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from cwf_jax.cli import entry

ROOT = Path(__file__).parent.parent.parent


class Outcome(NamedTuple):
  """What a call left: exit code, standard output, standard error."""

  code: int
  out: str
  err: str


@pytest.fixture(autouse=True)
def small_programs_are_kept():
  """A call in this process keeps those only that took long to compile; other tests keep them all."""
  name = "jax_persistent_cache_min_compile_time_secs"
  before = getattr(jax.config, name)
  yield
  jax.config.update(name, before)


@pytest.fixture
def cli(capsys):
  """Runs a call in this process."""

  def run(*arguments):
    capsys.readouterr()
    try:
      code = entry.run(entry.parse(["main.py", *map(str, arguments)]))
    except SystemExit as ended:
      code = ended.code
    return Outcome(code, *capsys.readouterr())

  return run


@pytest.fixture
def refused(cli):
  """Runs a call that is wrong: one line on standard error, nothing else, exit 2; gives the line."""

  def run(*arguments, code=2):
    found = cli(*arguments)
    assert (found.code, found.out) == (code, "")
    lines = found.err.splitlines()
    assert len(lines) == 1, found.err
    assert lines[0].startswith("cwf_jax: ")
    return lines[0]

  return run


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
  """Of a process: its own home, on the processor."""
  home = tmp_path_factory.mktemp("home")
  return {**os.environ, "CWF_JAX_HOME": str(home), "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "error"}


@pytest.fixture
def process(environment):
  """Runs `python main.py` as a user does, whose programs are kept in the home."""
  own = {name: value for name, value in environment.items() if name != "JAX_COMPILATION_CACHE_DIR"}

  def run(*arguments, cwd=ROOT, **options):
    command = [sys.executable, str(ROOT / "main.py"), *map(str, arguments)]
    done = subprocess.run(
      command, cwd=cwd, env=own, capture_output=True, text=True, errors="surrogateescape", timeout=300, **options
    )
    return Outcome(done.returncode, done.stdout, done.stderr)

  return run


@pytest.fixture(scope="session")
def tiny_index(photographs, tiny_checkpoint, tmp_path_factory):
  """An index of the photographs by the tiny checkpoint, which is not random, with the vectors of all classes."""
  from cwf_jax.indexing.build import build_index
  from cwf_jax.load import load_encoder

  folder = tmp_path_factory.mktemp("indexes") / "tiny.index"
  build_index(photographs, folder, load_encoder(str(tiny_checkpoint), num_classes=4), store_classes="all")
  return folder


@pytest.fixture(scope="session")
def query(photographs):
  """A photograph of the index."""
  return photographs / "a" / "picture_01.png"
