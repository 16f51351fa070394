"""Writes rows in commits that are small enough to lose little and large enough to cost little."""

import time

import pyarrow as pa

from cwf_jax.index.store import Index

_SECONDS = (5.0, 60.0)
_BYTES = 256 * 2**20


class Committer:
  """Gathers rows; commits them after seconds of work (1 % of the run so far, 5 to 60 s) or at 256 MB.

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
    self._waiting: list[pa.Table] = []
    self._started = self._committed = time.monotonic()

  def add(self, table: pa.Table) -> None:
    """Takes the rows of a batch, and commits if it is time."""
    self._waiting.append(table)
    now = time.monotonic()
    interval = min(max(0.01 * (now - self._started), _SECONDS[0]), _SECONDS[1])
    if now - self._committed > interval or sum(table.nbytes for table in self._waiting) > _BYTES:
      self.flush()

  def flush(self) -> None:
    """Commits what waits."""
    if not self._waiting:
      return
    start = time.monotonic()
    table, self._waiting = pa.concat_tables(self._waiting), []
    replaced = pa.array([name in self._changed for name in table["id"].to_pylist()])
    for part, replaces in ((table.filter(pa.compute.invert(replaced)), False), (table.filter(replaced), True)):
      if len(part):
        self._index.commit(part, replaces=replaces)
        self.rows += len(part)
    self._committed = time.monotonic()
    self.seconds += self._committed - start
