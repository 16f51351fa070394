"""Settings and random rows of an index, without an encoder."""

import dataclasses

import numpy as np

from cwf_jax.index import schema
from cwf_jax.index.schema import IndexSettings, StoredClasses, WhiteningOrigin
from cwf_jax.protocol import Protocol

SETTINGS = IndexSettings(
  fingerprint="f" * 64,
  weights="tiny",
  weights_folder=None,
  weights_sha256="a" * 64,
  is_random=True,
  protocol=Protocol.paper(64, 4).to_json(),
  network_classes=5,
  feature_channels=6,
  dimensions=3,
  num_encoded=4,
  stored=StoredClasses("own", 2),
  vector_type="int8",
  keep_raw=False,
  whitening=WhiteningOrigin("none"),
)

KINDS = {
  "own": SETTINGS,
  "none": dataclasses.replace(SETTINGS, stored=StoredClasses("none", 0)),
  "all": dataclasses.replace(SETTINGS, stored=StoredClasses("all", 5), num_encoded=5),
  "list": dataclasses.replace(SETTINGS, stored=StoredClasses("list", 2, (3, 1))),
  "float16": dataclasses.replace(SETTINGS, vector_type="float16"),
  "raw": dataclasses.replace(SETTINGS, keep_raw=True),
  "list and raw": dataclasses.replace(SETTINGS, stored=StoredClasses("list", 2, (3, 1)), keep_raw=True),
}


def make_columns(settings, ids, seed=0, root="/photographs", prefix=""):
  """Random columns of rows with these ids."""
  generator = np.random.default_rng(seed)
  columns = {}
  for field in schema.arrow_schema(settings):
    if schema.pa.types.is_fixed_size_list(field.type):
      kind = field.type.value_type.to_pandas_dtype()
      columns[field.name] = generator.integers(-100, 100, (len(ids), field.type.list_size)).astype(kind)
    elif schema.pa.types.is_integer(field.type):
      columns[field.name] = generator.integers(1, 1000, len(ids)).tolist()
    else:
      columns[field.name] = [f"{field.name} {number}" for number in range(len(ids))]
  return columns | {"id": list(ids), "root": [root] * len(ids), "prefix": [prefix] * len(ids)}


def make_table(settings, ids, seed=0, **named):
  """The same as a table."""
  return schema.to_table(settings, make_columns(settings, ids, seed, **named))
