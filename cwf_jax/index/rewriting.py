"""All rows of a Lance data set exchanged in one commit, without ever holding more than a part of them.

The tables are never handed to Lance as an iterator: it would call it on threads of its own, and after a Ctrl-C they would
go on calling into a Python that ends, which aborts the process.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import lance
import lance.fragment
import pyarrow as pa

from cwf_jax.index.folder import writing_to

FRAGMENT = 2**28
"""Bytes of rows that are written to one file."""


def rewrite(folder: Path, uri: str, data: lance.LanceDataset, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
  """Replaces rows, columns and metadata; until the commit at the end the data set is as it was.

  Args:
    folder: the index, for errors.
    uri: of its data set.
    data: the version that is replaced.
    schema: of the new rows, its metadata included.
    tables: the new rows.
  """
  named = {"schema": schema, "mode": "overwrite", "data_storage_version": data.data_storage_version}
  fragments = []
  for table in _gather(tables):
    with writing_to(folder):
      fragments += lance.fragment.write_fragments(table.replace_schema_metadata(schema.metadata), uri, **named)
  with writing_to(folder):
    lance.LanceDataset.commit(uri, lance.LanceOperation.Overwrite(schema, fragments), read_version=data.version)


def _gather(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
  """Tables of at least `FRAGMENT` bytes, the last one smaller."""
  waiting = []
  for table in tables:
    waiting.append(table)
    if sum(one.nbytes for one in waiting) >= FRAGMENT:
      yield pa.concat_tables(waiting)
      waiting.clear()
  if waiting:
    yield pa.concat_tables(waiting)
