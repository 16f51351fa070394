"""Killed, interrupted or out of room: the index is usable, and the next run ends where an undisturbed one would have."""

import collections
import dataclasses
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import lance
import numpy as np
import pytest

from cwf_jax.index import schema
from cwf_jax.index.store import is_index, open_index
from cwf_jax.indexing import build, committer, whitening

build_index = functools.partial(build.build_index, batch_size=2)

_SCRIPT = """
import signal, sys, warnings
from cwf_jax.load import load_encoder
from cwf_jax.indexing import build, committer, whitening
images, index, weights, seconds = sys.argv[1:]
committer.COMMIT_SECONDS = (float(seconds),) * 2
whitening.ROWS = 5
warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")  # as in tests/conftest.py
encoder = load_encoder(weights, num_classes=4)
def tell(*state):
  print(*state, flush=True)
tell("ready")
try:
  summary = build.build_index(images, index, encoder, batch_size=2, whitening="self", n_pca=2, progress=tell)
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of Python itself is not what is tested
except KeyboardInterrupt:
  tell("interrupted")
  sys.exit(130)
tell("done", summary.indexed, summary.unchanged)
"""


class Run:
  """A process that indexes, tells how far it is, and can be stopped anywhere."""

  def __init__(self, images, index, weights, seconds=0.0):
    self.process = subprocess.Popen(
      [sys.executable, "-c", _SCRIPT, images, index, weights, str(seconds)],
      env={**os.environ, "PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu"},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  def wait_for(self, word):
    for line in self.process.stdout:
      if line.split()[0] == word:
        return line.split()
    raise AssertionError(self.process.communicate()[1])

  def end(self, kind=None):
    if kind is not None:
      self.process.send_signal(kind)
    out, err = self.process.communicate(timeout=60)
    return self.process.returncode, out.splitlines(), err


@pytest.fixture(scope="module")
def start(tiny_checkpoint):
  return lambda images, index, **named: Run(images, index, tiny_checkpoint, **named)


def _whole(index):
  """Everything but who wrote it when: rows in the order of the ids, the whitening, the snapshot, to the last bit."""
  opened = open_index(index)
  names = schema.arrow_schema(opened.settings).names
  assert len(opened) == len(set(opened.take(opened.order(), ["id"])["id"].to_pylist()))
  rows = opened.take(opened.order(), names)
  content = {name: schema.to_array(rows[name]).tolist() for name in names if name != "mtime_ns"}
  arrays = {name: array.tobytes() for name, array in (opened.whitening or {}).items()}
  return dataclasses.replace(opened.settings), content, arrays, opened.snapshot.descriptors.tobytes()


@pytest.fixture(scope="module")
def expected(start, photographs, tmp_path_factory):
  index = tmp_path_factory.mktemp("whole") / "i"
  code, lines, err = start(photographs, index).end()
  assert (code, err) == (0, "")
  assert lines[-1] == "done 12 0"
  return _whole(index)


def _stop_somewhere(run, generator, kind):
  """At a random number of files done and a random moment after it; also before the first and after the last."""
  run.wait_for("ready")
  done = int(generator.integers(0, 14))
  for line in run.process.stdout:
    if line.split()[0] == "done" or int(line.split()[0]) >= done:
      break
  time.sleep(generator.choice([0.0, generator.uniform(0, 0.02), generator.uniform(0, 0.3)]))
  return run.end(kind)


def _check_kills(start, photographs, tmp_path, expected, kills, seed):
  generator = np.random.default_rng(seed)
  index, counts = tmp_path / "i", collections.Counter()
  for _ in range(kills):
    code, _, err = _stop_somewhere(start(photographs, index), generator, signal.SIGKILL)
    counts[code] += 1
    assert code in (0, -signal.SIGKILL), err
    if is_index(index):
      opened = open_index(index)
      assert len(opened.snapshot.rows) == len(opened)
      if not opened.settings.whitening.pending:
        assert _whole(index) == expected
        shutil.rmtree(index)
  code, _, err = start(photographs, index).end()
  assert (code, err) == (0, "")
  assert _whole(index) == expected
  return counts


def test_a_killed_run_ends_with_what_an_undisturbed_one_has(start, photographs, tmp_path, expected):
  counts = _check_kills(start, photographs, tmp_path, expected, 4, seed=3)
  assert counts[-signal.SIGKILL] >= 3


@pytest.mark.long
@pytest.mark.parametrize("seed", [10, 11, 12])
def test_many_killed_runs_end_with_what_an_undisturbed_one_has(start, photographs, tmp_path, expected, seed):
  counts = _check_kills(start, photographs, tmp_path, expected, 10, seed)
  assert counts[-signal.SIGKILL] >= 6


def test_an_interrupted_run_keeps_all_that_it_encoded(start, photographs, tmp_path, expected):
  """No commit is due for an hour, so what is there afterwards was committed because of the interruption."""
  run = start(photographs, tmp_path / "i", seconds=3600)
  done = int(run.wait_for("6")[0])
  code, lines, err = run.end(signal.SIGINT)
  assert (code, lines[-1], err) == (130, "interrupted", "")
  told = [int(line.split()[0]) for line in lines[:-1]]
  assert len(open_index(tmp_path / "i")) >= max([done, *told])
  code, _, err = start(photographs, tmp_path / "i").end()
  assert (code, err) == (0, "")
  assert _whole(tmp_path / "i") == expected


@pytest.mark.long
@pytest.mark.parametrize("seed", range(15))
def test_a_run_that_is_interrupted_anywhere(start, photographs, tmp_path, expected, seed):
  code, _, err = _stop_somewhere(start(photographs, tmp_path / "i"), np.random.default_rng(seed), signal.SIGINT)
  assert code in (0, 130) and err == ""
  code, _, err = start(photographs, tmp_path / "i").end()
  assert (code, err) == (0, "")
  assert _whole(tmp_path / "i") == expected


def test_an_interruption_while_a_commit_is_made_loses_and_doubles_nothing(photographs, tmp_path, tiny_encoder, monkeypatch):
  monkeypatch.setattr(committer, "COMMIT_SECONDS", (0.0, 0.0))
  write, begun = lance.write_dataset, threading.Event()

  def slow(*arguments, **named):
    if named["mode"] == "append" and not begun.is_set():
      begun.set()
      signal.raise_signal(signal.SIGINT)  # the main thread's, at its next step
      time.sleep(0.3)
    return write(*arguments, **named)

  monkeypatch.setattr(lance, "write_dataset", slow)
  told = []
  with pytest.raises(KeyboardInterrupt):
    build_index(photographs, tmp_path / "i", tiny_encoder, batch_size=1, progress=lambda *state: told.append(state[0]))
  index = open_index(tmp_path / "i")
  ids = index.take(index.order(), ["id"])["id"].to_pylist()
  assert len(ids) == len(set(ids)) >= max(told, default=1)
  assert build_index(photographs, tmp_path / "i", tiny_encoder).rows == 12


def test_threads_end_with_an_interrupted_run(photographs, tmp_path, tiny_encoder):
  before = threading.active_count()

  def interrupt(*_):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    build_index(photographs, tmp_path / "i", tiny_encoder, batch_size=1, progress=interrupt)
  end = time.monotonic() + 5
  while threading.active_count() > before and time.monotonic() < end:
    time.sleep(0.01)
  assert threading.active_count() <= before
  assert 0 < len(open_index(tmp_path / "i")) < 12


@pytest.mark.parametrize("method", ["append", "delete", "merge", "snapshot"])
def test_a_full_disk_leaves_a_usable_index(photographs, tmp_path, tiny_encoder, monkeypatch, method):
  monkeypatch.setattr(committer, "COMMIT_SECONDS", (0.0, 0.0))
  images = shutil.copytree(photographs, tmp_path / "images")
  names = sorted(path for path in images.rglob("*.png"))
  rows = 0
  if method != "append":
    build_index(images, tmp_path / "i", tiny_encoder)
    names[0].unlink()
    shutil.copy(names[3], names[1])
    rows = 11
  calls, write = [], lance.write_dataset

  def fail(*arguments, **named):
    calls.append(1)
    if len(calls) > 3 or method != "append":
      raise OSError("LanceError(IO): No space left on device (os error 28), /home/runner/lance.rs:1:2")
    return write(*arguments, **named)

  with monkeypatch.context() as patched:
    if method == "append":
      patched.setattr(lance, "write_dataset", fail)
    elif method == "snapshot":
      patched.setattr("cwf_jax.index.snapshot._write_array", fail)
    else:
      patched.setattr(lance.LanceDataset, {"delete": "delete", "merge": "merge_insert"}[method], fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
      build_index(images, tmp_path / "i", tiny_encoder, batch_size=1)
    assert not isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value) and str(tmp_path / "i") in str(caught.value)
  opened = open_index(tmp_path / "i")
  assert len(opened.snapshot.rows) == len(opened) and len(opened) in (({3, 2}) if method == "append" else {rows, 12})
  summary = build_index(images, tmp_path / "i", tiny_encoder, batch_size=1)
  assert summary.rows == (rows or 12)


def test_a_real_limit_on_writing_leaves_a_usable_index(photographs, tmp_path, tiny_encoder):
  """The kernel refuses files beyond a size, as it refuses any on a full disk."""
  asked = {"store_classes": "all", "keep_raw": True}
  build_index(photographs, tmp_path / "j", tiny_encoder, **asked)  # its programs are in JAX's cache, which writes files too
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, hard))
    with pytest.raises(OSError, match=r"cannot be written: .*too large"):
      build_index(photographs, tmp_path / "i", tiny_encoder, **asked)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)
  assert len(open_index(tmp_path / "i").snapshot.rows) == 0
  assert build_index(photographs, tmp_path / "i", tiny_encoder).rows == 12


def test_an_interruption_while_the_rows_are_rewritten_is_taken_up(photographs, tmp_path, tiny_encoder, monkeypatch):
  monkeypatch.setattr(whitening, "ROWS", 5)
  original, calls = whitening.repack, []

  def interrupting(*arguments):
    calls.append(1)
    if len(calls) == 2:
      signal.raise_signal(signal.SIGINT)
    return original(*arguments)

  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr(whitening, "repack", interrupting)
    build_index(photographs, tmp_path / "i", tiny_encoder, whitening="self")
  assert open_index(tmp_path / "i").settings.whitening.pending
  build_index(photographs, tmp_path / "i", tiny_encoder)
  build_index(photographs, tmp_path / "j", tiny_encoder, whitening="self")
  assert _whole(tmp_path / "i") == _whole(tmp_path / "j")


def test_an_interruption_before_the_fit_is_taken_up(photographs, tmp_path, tiny_encoder, monkeypatch):
  def interrupt(index):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr(build, "_whiten", interrupt)
    build_index(photographs, tmp_path / "i", tiny_encoder, whitening="self")
  opened = open_index(tmp_path / "i")
  assert opened.settings.whitening.pending and opened.whitening is None and len(opened) == 12
  summary = build_index(photographs, tmp_path / "i", tiny_encoder)
  assert (summary.indexed, summary.unchanged) == (0, 12) and "fitted on 12" in summary.whitening
  build_index(photographs, tmp_path / "j", tiny_encoder, whitening="self")
  assert _whole(tmp_path / "i") == _whole(tmp_path / "j")
