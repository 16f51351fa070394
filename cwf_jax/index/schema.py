"""What an index holds: its settings, once, and the columns of its rows.

A row is one image. The class vectors are stored as they are searched: whitened with the index's whitening, of unit length.
"""

import dataclasses
import json

import numpy as np
import pyarrow as pa

from cwf_jax.errors import InputError

FORMAT = 1
"""The number of this layout; an index of another is refused."""

_METADATA_KEY = b"cwf_jax"

_VECTOR_TYPES = {"int8": pa.int8(), "float16": pa.float16()}


@dataclasses.dataclass(frozen=True)
class StoredClasses:
  """Which class vectors are stored besides the descriptor (`--store_classes`).

  Attributes:
    kind: "own": the image's own `count` most probable; "all"; "list": those of `ids`; "none".
    count: vectors stored for an image.
    ids: the classes of "list".
  """

  kind: str
  count: int
  ids: tuple[int, ...] = ()

  def __post_init__(self):
    if self.kind not in ("own", "all", "list", "none"):
      raise InputError(f"stored classes are 'own', 'all', 'list' or 'none'; found {self.kind!r}")

  def __str__(self) -> str:
    return {"own": f"{self.count} an image", "list": f"a list of {self.count}"}.get(self.kind, self.kind)


@dataclasses.dataclass(frozen=True)
class WhiteningOrigin:
  """Where the whitening came from.

  Attributes:
    source: "none", "bundled", "self", or the path of the index that it was taken from.
    file: the arrays' file in the index's folder, or None.
    n_pca: the classes of each image that "self" is fitted on.
    pending: "self" was asked for and is not fitted yet: the rows are not whitened so far.
    dimensions: that "self" is fitted to, at most; None: all.
  """

  source: str
  file: str | None = None
  n_pca: int = 1
  pending: bool = False
  dimensions: int | None = None


@dataclasses.dataclass(frozen=True)
class IndexSettings:
  """What all rows of an index share.

  Attributes:
    fingerprint: of the encoder; see `cwf_jax.protocol.fingerprint`.
    weights: the name under which the encoder's weights were loaded.
    weights_folder: their folder, or None.
    weights_sha256: the hash of the parameters.
    is_random: seeded random weights: classes mean nothing.
    protocol: `Protocol.to_json()`.
    network_classes: C.
    feature_channels: K, dimensions of a raw class vector.
    dimensions: of descriptors and stored class vectors.
    num_encoded: the most probable classes whose vectors are computed for each image.
    stored: the class vectors that are stored.
    vector_type: what holds them: "int8", with one scale for each vector (see `ops.quantization`), or "float16", as in the
      indexes that were made before `vector_type` was recorded.
    keep_raw: the raw class vectors are stored too.
    whitening: its origin.
    system: whose descriptors are stored and searched by: "ofa", or another of `cwf_jax.systems`.
    preset: "paper" or "reference": the system's settings.
    num_vectors: vectors that such a system makes of an image, all of them zero or of unit length; 0: class vectors.
  """

  fingerprint: str
  weights: str
  weights_folder: str | None
  weights_sha256: str
  is_random: bool
  protocol: dict
  network_classes: int
  feature_channels: int
  dimensions: int
  num_encoded: int
  stored: StoredClasses
  vector_type: str
  keep_raw: bool
  whitening: WhiteningOrigin
  system: str = "ofa"
  preset: str = "paper"
  num_vectors: int = 0

  def __post_init__(self):
    if self.vector_type not in _VECTOR_TYPES:
      raise InputError(f"class vectors are stored as {' or '.join(_VECTOR_TYPES)}; found {self.vector_type!r}")

  @property
  def num_classes(self) -> int:
    """The classes summed into a descriptor."""
    return self.protocol["num_classes"]

  @property
  def has_scales(self) -> bool:
    """Whether the stored class vectors come with scales."""
    return self.vector_type == "int8" and self.stored.kind != "none"

  @property
  def raw_column(self) -> str:
    """The column of the vectors before whitening, where they are kept."""
    return "raw_vectors" if self.num_vectors else "raw_class_vectors"

  @property
  def num_raw(self) -> int:
    """Raw vectors of an image: the system's; of class vectors its own most probable classes, then those of a list."""
    if self.num_vectors:
      return self.num_vectors
    return self.num_encoded + (self.stored.count if self.stored.kind == "list" else 0)

  def to_metadata(self) -> dict[bytes, bytes]:
    """The settings as the metadata of the Lance schema, so that rows and settings change in one commit."""
    return {_METADATA_KEY: json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, sort_keys=True).encode()}

  @classmethod
  def from_metadata(cls, metadata: dict[bytes, bytes] | None) -> "IndexSettings":
    """The inverse of `to_metadata`.

    Raises:
      InputError: the data set is not an index of this package, of another format, or its settings are damaged.
    """
    if not metadata or _METADATA_KEY not in metadata:
      raise InputError("it is a Lance data set, but not an index of cwf_jax")
    try:
      values = json.loads(metadata[_METADATA_KEY])
      found = values.pop("format", None)
      if found != FORMAT:
        raise InputError(f"its format is {found}, this version of cwf_jax reads format {FORMAT}; index the images again")
      stored = values.pop("stored")
      values.setdefault("vector_type", "int8" if stored["kind"] == "all" else "float16")
      return cls(
        stored=StoredClasses(stored["kind"], stored["count"], tuple(stored["ids"])),
        whitening=WhiteningOrigin(**values.pop("whitening")),
        **values,
      )
    except InputError:
      raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise InputError(f"its settings are damaged ({type(error).__name__}: {error})") from None


def class_column(class_id: int) -> str:
  """The column of one class's vectors where all classes are stored, so that a search reads only those it needs."""
  return f"class_{class_id:05d}"


def is_derived(column: str) -> bool:
  """Whether the column follows from the raw class vectors and the whitening."""
  return column == "descriptor" or column.startswith("class_")


def arrow_schema(settings: IndexSettings) -> pa.Schema:
  """The columns of a row; fixed-size lists hold vectors one after the other.

  `made_with` names the versions, dtype and device of the run that encoded the row: recorded, not compared.
  """
  scalar = {
    "id": pa.string(),
    "path": pa.string(),
    "root": pa.string(),
    "prefix": pa.string(),
    "bytes": pa.int64(),
    "mtime_ns": pa.int64(),
    "sha256": pa.string(),
    "height": pa.int32(),
    "width": pa.int32(),
    "made_with": pa.string(),
  }
  top = min(settings.num_encoded, max(settings.num_classes, 64))
  lists = {
    "top_class_ids": (pa.int32(), top),
    "top_probabilities": (pa.float32(), top),
    "descriptor": (pa.float32(), settings.dimensions),
  }
  stored, dimensions, kind = settings.stored, settings.dimensions, _VECTOR_TYPES[settings.vector_type]
  if stored.kind in ("own", "list"):
    lists["class_ids"] = (pa.int32(), stored.count)
    lists["class_vectors"] = (kind, stored.count * dimensions)
  if settings.has_scales:
    lists["class_scales"] = (pa.float32(), stored.count)
  if stored.kind == "all":
    lists |= {class_column(class_id): (kind, dimensions) for class_id in range(settings.network_classes)}
  if settings.keep_raw and not settings.num_vectors:
    lists["raw_class_ids"] = (pa.int32(), settings.num_raw)
  if settings.keep_raw:
    lists[settings.raw_column] = (pa.float32(), settings.num_raw * settings.feature_channels)
  fields = [pa.field(name, kind, nullable=False) for name, kind in scalar.items()]
  fields += [pa.field(name, pa.list_(kind, size), nullable=False) for name, (kind, size) in lists.items()]
  return pa.schema(fields, metadata=settings.to_metadata())


def to_table(settings: IndexSettings, columns: dict[str, list | np.ndarray]) -> pa.Table:
  """Rows as a table: lists of scalars, and arrays whose first axis is the row.

  Raises:
    InputError: a column is missing, unknown, or of another size than the schema's.
  """
  schema = arrow_schema(settings)
  if set(columns) != set(schema.names):
    raise InputError(f"the columns should be {sorted(schema.names)}; found {sorted(columns)}")
  rows, arrays = len(columns["id"]), []
  for field in schema:
    values = columns[field.name]
    if pa.types.is_fixed_size_list(field.type):
      flat = np.ascontiguousarray(values, field.type.value_type.to_pandas_dtype()).reshape(-1)
      if len(flat) != rows * field.type.list_size:
        raise InputError(f"{field.name} should be {rows} rows of {field.type.list_size} values; found {np.shape(values)}")
      arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type))
    else:
      if len(values) != rows:
        raise InputError(f"{field.name} should be {rows} rows; found {len(values)}")
      arrays.append(pa.array(values, field.type))
  return pa.Table.from_arrays(arrays, schema=schema)


def to_array(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
  """A column of fixed-size lists as [rows, size]; a scalar column as [rows]."""
  if isinstance(column, pa.ChunkedArray):
    column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
      column = pa.concat_arrays(column.chunks)
  if pa.types.is_fixed_size_list(column.type):
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
  return column.to_numpy(zero_copy_only=False)
