"""Writes rows in commits that are small enough to lose little and large enough to cost little."""

import collections
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from cwf_jax.index.store import Index

COMMIT_SECONDS = (5.0, 60.0)
"""The least and the most that an interrupted run loses; in between it is 1 % of the run so far."""

COMMIT_BYTES = 256 * 2**20
"""Rows of so many bytes are committed at once; twice as many are held, while those before are being written."""


class Committer:
  """Gathers rows and commits them on a thread of its own, so that neither the device nor a Ctrl-C waits or cuts in.

  Used as a context: what was added is committed at its end, also when an exception ends it; unless it is this one's own.

  Attributes:
    rows: committed so far.
    seconds: spent writing.
  """

  def __init__(self, index: Index, changed: frozenset[str]):
    """Rows whose ids are in `changed` replace those that the index holds."""
    self.rows = 0
    self.seconds = 0.0
    self._index = index
    self._changed = changed
    self._waiting: collections.deque[pa.Table] = collections.deque()
    self._bytes = 0
    self._thread = ThreadPoolExecutor(1, "committer")
    self._thread.submit(int).result()  # it runs before anything waits: a Ctrl-C during its start would lose sight of it
    self._running: Future | None = None
    self._started = self._committed = time.monotonic()

  def __enter__(self) -> "Committer":
    return self

  def __exit__(self, *_) -> None:
    try:
      self._wait()
      self._start()
      self._wait()
    finally:
      self._thread.shutdown()

  def add(self, table: pa.Table) -> None:
    """Takes the rows of a batch, and starts a commit if it is time."""
    self._waiting.append(table)
    self._bytes += table.nbytes
    now = time.monotonic()
    least, most = COMMIT_SECONDS
    if now - self._committed >= min(max(0.01 * (now - self._started), least), most) or self._bytes > COMMIT_BYTES:
      self._wait()
      self._start()

  def _start(self) -> None:
    self._committed, self._bytes = time.monotonic(), 0
    self._running = self._thread.submit(self._commit)

  def _wait(self) -> None:
    """For the commit that is being made; raises what it raised, also the next time."""
    if self._running is not None:
      self._running.result()

  def _commit(self) -> None:
    """The thread alone takes rows away: an interruption of the main one never loses or repeats any."""
    tables = []
    while self._waiting:
      tables.append(self._waiting.popleft())
    if not tables:
      return
    start = time.monotonic()
    table = pa.concat_tables(tables)
    replaced = pa.array([name in self._changed for name in table["id"].to_pylist()])
    for part, replaces in ((table.filter(pc.invert(replaced)), False), (table.filter(replaced), True)):
      if len(part):
        self._index.commit(part, replaces=replaces)
        self.rows += len(part)
    self.seconds += time.monotonic() - start
