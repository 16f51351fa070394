"""Columns and settings come back as they were put in; what does not fit is refused by name."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from cwf_jax.errors import InputError
from cwf_jax.index import schema
from cwf_jax.index.schema import IndexSettings, StoredClasses, WhiteningOrigin
from cwf_jax.protocol import Protocol
from tests.index.rows import KINDS, SETTINGS, make_columns, make_table


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_rows_come_back_as_they_were(kind, rows):
  columns = make_columns(KINDS[kind], [f"é {number}" for number in range(rows)])
  table = schema.to_table(KINDS[kind], columns)
  assert len(table) == rows
  for name, values in columns.items():
    found = schema.to_array(table[name])
    assert np.array_equal(found, np.asarray(values, found.dtype)), name
    assert found.shape == np.shape(values), name


def test_chunks_and_slices_of_a_column_are_rows_too():
  table = schema.to_table(SETTINGS, make_columns(SETTINGS, ["a", "b", "c", "d"]))
  whole = schema.to_array(table["descriptor"])
  chunked = pa.concat_tables([table.slice(1, 2), table.slice(3, 1)])
  assert np.array_equal(schema.to_array(chunked["descriptor"]), whole[1:])
  sliced = table.to_batches()[0].slice(2)
  assert np.array_equal(schema.to_array(sliced["class_vectors"]), schema.to_array(table["class_vectors"])[2:])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_columns(kind):
  names = set(schema.arrow_schema(KINDS[kind]).names)
  assert {"class_ids", "class_vectors"} <= names or kind in ("none", "all")
  assert ("class_00004" in names) == (kind == "all")
  assert ("class_scales" in names) == (kind not in ("none", "float16"))
  assert ("raw_class_vectors" in names) == KINDS[kind].keep_raw
  assert {"id", "path", "root", "prefix", "bytes", "mtime_ns", "sha256", "height", "width", "made_with"} <= names


def test_raw_vectors_of_a_list_stand_after_the_images_own():
  assert KINDS["list and raw"].num_raw == 4 + 2
  field = schema.arrow_schema(KINDS["list and raw"]).field("raw_class_vectors")
  assert field.type.list_size == 6 * 6


def test_what_follows_from_raw_vectors_is_known():
  names = schema.arrow_schema(KINDS["raw"]).names + schema.arrow_schema(KINDS["all"]).names
  derived = {name for name in names if schema.is_derived(name)}
  assert derived == {"descriptor", "class_ids", "class_vectors", "class_scales", *map(schema.class_column, range(5))}


@pytest.mark.parametrize("kind", KINDS)
def test_settings_come_back_as_they_were(kind):
  origin = WhiteningOrigin("self", "whitening-1.npz", 3, True)
  settings = dataclasses.replace(KINDS[kind], whitening=origin, weights_folder="/w")
  assert IndexSettings.from_metadata(settings.to_metadata()) == settings
  assert schema.arrow_schema(settings).metadata == settings.to_metadata()
  assert settings.num_classes == 4


@pytest.mark.parametrize(("kind", "vector_type"), [("own", "float16"), ("list", "float16"), ("all", "int8")])
def test_an_index_that_does_not_say_how_it_holds_vectors_holds_them_as_it_was_then(kind, vector_type):
  (key, value), = KINDS[kind].to_metadata().items()
  values = json.loads(value)
  del values["vector_type"]
  settings = IndexSettings.from_metadata({key: json.dumps(values).encode()})
  assert settings == dataclasses.replace(KINDS[kind], vector_type=vector_type)


def test_an_image_takes_less_than_60_kb_with_64_vectors_of_672_dimensions():
  settings = dataclasses.replace(
    SETTINGS, protocol=Protocol.paper(64, 64).to_json(), network_classes=1000, feature_channels=672, dimensions=672,
    num_encoded=64, stored=StoredClasses("own", 64),
  )  # fmt: skip
  row = make_table(settings, [f"a/folder/photograph_{number}.jpg" for number in range(10)]).nbytes / 10
  copied = 4 * settings.dimensions + 8  # of the descriptor and its row, into the snapshot
  assert row + copied < 60_000


def _changed(**changes):
  (key, value), = SETTINGS.to_metadata().items()
  values = json.loads(value) | changes
  return {key: json.dumps({name: one for name, one in values.items() if one is not ...}).encode()}


@pytest.mark.parametrize(
  ("metadata", "message"),
  [
    (None, "not an index of cwf_jax"),
    ({b"other": b"1"}, "not an index of cwf_jax"),
    (_changed(format=2), "its format is 2, this version of cwf_jax reads format 1"),
    (_changed(format=...), "its format is None"),
    (_changed(unknown=1), "damaged"),
    (_changed(dimensions=...), "damaged"),
    (_changed(vector_type="int4"), "stored as int8 or float16; found 'int4'"),
    (_changed(stored=...), "damaged"),
    (_changed(whitening={"source": "none", "colour": 1}), "damaged"),
    ({b"cwf_jax": b"{"}, "damaged"),
    ({b"cwf_jax": b"[]"}, "damaged"),
  ],
)  # fmt: skip
def test_other_settings_are_refused(metadata, message):
  with pytest.raises(InputError, match=message):
    IndexSettings.from_metadata(metadata)


def test_columns_that_do_not_fit_are_refused():
  columns = make_columns(SETTINGS, ["a", "b"])
  with pytest.raises(InputError, match="columns should be"):
    schema.to_table(SETTINGS, {name: values for name, values in columns.items() if name != "sha256"})
  with pytest.raises(InputError, match="columns should be"):
    schema.to_table(SETTINGS, columns | {"color": [1, 2]})
  with pytest.raises(InputError, match="descriptor should be 2 rows of 3 values"):
    schema.to_table(SETTINGS, columns | {"descriptor": np.zeros((2, 4))})
  with pytest.raises(InputError, match="height should be 2 rows"):
    schema.to_table(SETTINGS, columns | {"height": [1]})
  with pytest.raises(InputError, match="'own', 'all', 'list' or 'none'"):
    StoredClasses("some", 1)
