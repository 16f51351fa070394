"""The vectors of all images and of all queries: computed where they are not kept yet, one pass for a network and a size.

    seen = SeenImages(images, encoder, settings, "results/vectors")
    seen.compute(["raw", "rmac", "ofa"], (own_classes(encoder, settings),))
    for rows, vectors in seen.read("rmac"):
      ...
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from cwf_jax.datasets.benchmark import Benchmark
from cwf_jax.encoder import Encoder
from cwf_jax.extraction.passes import Column, pooled_column, protocol_of, see_images, see_query, with_protocol
from cwf_jax.extraction.vectors import ALL, Chosen, Signature, VectorStore
from cwf_jax.images.image_set import ImageSet, sign
from cwf_jax.images.queries import read_pixels
from cwf_jax.keys import hash_sources, make_key
from cwf_jax.protocol import Protocol
from cwf_jax.systems.queries import box_rule_of, fit_query, read_box
from cwf_jax.systems.settings import Settings, list_settings
from cwf_jax.systems.system import SYSTEMS

PASSES = ("extraction", "images", "models", "ops", "encoder.py", "protocol.py", "systems/queries.py")
"""The code of forward passes: stored vectors of another version of it are not used."""

Count = Callable[[int], Any]
"""Called with the number of images that are done more."""


def own_classes(encoder: Encoder, settings: Settings) -> Column:
  """The vectors of an image's own most probable classes: as many as the preset sums, so that fewer need no other passes, or as
  many as are summed or a whitening is fitted on."""
  usual = next(field.default for field in list_settings() if field.name == "num_classes")
  count = min(max(settings.num_classes, settings.n_pca, usual), len(encoder.settings.classes))
  return Column(SYSTEMS["ofa"].column(f"own{count}", settings), count=count)


def listed_classes(encoder: Encoder, settings: Settings, class_ids: Sequence[int] | None) -> Column:
  """The vectors of a list of classes, or of all."""
  every = tuple(range(len(encoder.settings.classes)))
  listed = every if class_ids is None else tuple(sorted({int(one) for one in class_ids}))
  name = "all" if listed == every else f"some{make_key(listed)[:12]}"
  return Column(SYSTEMS["ona"].column(name, settings), listed=listed)


class SeenImages:
  """Whole images.

  Attributes:
    images: which.
  """

  def __init__(
    self, images: ImageSet, encoder: Encoder, settings: Settings, folder: str | os.PathLike, batch_size: int | None = None
  ):
    """Nothing is computed yet; `folder` keeps the vectors."""
    self.images = images
    self._encoder, self._settings, self._folder, self._batch_size = encoder, settings, Path(folder), batch_size
    self._stores: dict[str, VectorStore] = {}

  def plan(self, names: Sequence[str], classes: tuple[Column, ...]) -> dict[Protocol, tuple[Column, ...]]:
    """The columns of each pass: of the systems that pool, and of classes for those that sum them."""
    return plan_passes(names, classes, self._encoder, self._settings)

  def count_missing(self, names: Sequence[str], classes: tuple[Column, ...]) -> int:
    """Images to be passed, counted once for each pass."""
    return sum(len(missing) for _, _, missing in self._missing(names, classes))

  def compute(self, names: Sequence[str], classes: tuple[Column, ...], count: Count | None = None) -> None:
    """Makes the passes that are not there yet; what stops it keeps what is done.

    Raises:
      InputError: images cannot be read.
      OSError: there is no room.
    """
    for protocol, columns, missing in self._missing(names, classes):
      store, signatures = self.store(protocol), self.images.signatures
      found = see_images(
        with_protocol(self._encoder, protocol), self._at(protocol), missing, columns, self._settings, self._batch_size, count
      )
      try:
        for ids, vectors in found:
          store.add(ids, [signatures[name] for name in ids], vectors)
      finally:
        store.flush()

  def _missing(self, names, classes) -> Iterator[tuple[Protocol, tuple[Column, ...], tuple[str, ...]]]:
    for protocol, columns in self.plan(names, classes).items():
      store = self.store(protocol)
      wanted = [column for column in columns if store.missing(self.images.signatures, [column.name])]
      if wanted:
        yield protocol, tuple(wanted), store.missing(self.images.signatures, [column.name for column in wanted])

  def read(self, name: str, column: str, chosen: Chosen = ALL):
    """A column part by part; see `VectorStore.read`.

    Args:
      name: of the system, which says at which size.
      column: its name.
      chosen: which of an image's vectors.
    """
    return self.store(protocol_of(name, self._encoder, self._settings)).read(column, self.images.signatures, chosen)

  def _at(self, protocol: Protocol) -> ImageSet:
    """The images as they are seen at a size: only the paper's own systems see them stretched."""
    own = protocol.size_rule in ("shorter_side", "fixed_frame")
    return self.images if own else dataclasses.replace(self.images, stretched=frozenset())

  def store(self, protocol: Protocol) -> VectorStore:
    """What keeps the vectors of that size."""
    key = vector_key(self._encoder, protocol, {"stretched": sorted(self._at(protocol).stretched), "root": self.images.root})
    folder = self._folder / f"{_shorten(self.images.name)}-{key[:16]}"
    if key not in self._stores:
      self._stores[key] = VectorStore(folder)
    return self._stores[key]


class SeenQueries:
  """The queries of a benchmark that have a box; one without is its image, which `SeenImages` has."""

  def __init__(self, benchmark: Benchmark, encoder: Encoder, settings: Settings, folder: str | os.PathLike):
    """Nothing is computed yet; `folder` keeps the vectors."""
    self._benchmark, self._encoder, self._settings, self._folder = benchmark, encoder, settings, Path(folder)
    self._database = frozenset(benchmark.database)
    # Kept under all that they are: a query of the same name may have got another box, or its image have left the database.
    boxed = [query for query in benchmark.queries if query.box is not None]
    self._queries = {repr((*query, query.image in self._database)): query for query in boxed}
    paths = {name: benchmark.listing.path(query.image) for name, query in self._queries.items()}
    self.signatures: dict[str, Signature] = {name: sign(path) for name, path in paths.items()}
    self._stores: dict[str, VectorStore] = {}

  def __len__(self) -> int:
    """The queries with a box."""
    return len(self._queries)

  def plan(self, names: Sequence[str], classes: tuple[Column, ...]) -> dict[Protocol, tuple[Column, ...]]:
    """As of `SeenImages`."""
    return plan_passes(names, classes, self._encoder, self._settings)

  def compute(self, names: Sequence[str], classes: tuple[Column, ...], count: Count | None = None) -> None:
    """As of `SeenImages`; each system sees a query by its own rule."""
    plan = self.plan(names, classes)
    missing = {protocol: self._missing(protocol, columns) for protocol, columns in plan.items()}
    for protocol, columns in plan.items():
      encoder, store = with_protocol(self._encoder, protocol), self.store(protocol)
      try:
        for name in missing[protocol]:
          store.add([name], [self.signatures[name]], self._see(encoder, name, columns))
          if count is not None:
            count(1)
      finally:
        store.flush()

  def count_missing(self, names: Sequence[str], classes: tuple[Column, ...]) -> int:
    """Queries to be passed, counted once for each pass."""
    plan = self.plan(names, classes)
    return sum(len(self._missing(protocol, columns)) for protocol, columns in plan.items())

  def _missing(self, protocol: Protocol, columns: Sequence[Column]) -> tuple[str, ...]:
    return self.store(protocol).missing(self.signatures, [column.name for column in columns])

  def _see(self, encoder: Encoder, name: str, columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """One pass for each way in which the systems see the query."""
    query = self._queries[name]
    pixels = read_pixels(self._benchmark.listing.path(query.image))
    ways: dict[tuple[str, str], list[Column]] = {}
    for column in columns:
      system = column.system or "ofa"
      box_rule = box_rule_of(system, query, self._database, self._settings)
      ways.setdefault((SYSTEMS[system].query_rule(self._settings), box_rule), []).append(column)
    found = {}
    for (rule, box_rule), some in ways.items():
      box = read_box(query.box, box_rule, pixels.shape[:2], self._settings)
      fitted = fit_query(pixels, box, rule, encoder.settings.protocol)
      found |= see_query(encoder, fitted, tuple(some), self._settings)
    return found

  def read(self, name: str, column: str, chosen: Chosen = ALL) -> Float[np.ndarray, "q r k"]:
    """A column, by its name, of all queries with a box, in the benchmark's order."""
    store = self.store(protocol_of(name, self._encoder, self._settings))
    return gather(store.read(column, self.signatures, chosen), len(self.signatures))

  def store(self, protocol: Protocol) -> VectorStore:
    """What keeps the vectors of that size."""
    key = vector_key(self._encoder, protocol, self._settings.acting_on("queries") | {"root": self._benchmark.listing.root})
    if key not in self._stores:
      folder = self._folder / f"{_shorten(self._benchmark.name)}-queries-{key[:16]}"
      self._stores[key] = VectorStore(folder)
    return self._stores[key]


def plan_passes(
  names: Sequence[str], classes: tuple[Column, ...], encoder: Encoder, settings: Settings
) -> dict[Protocol, tuple[Column, ...]]:
  """What each forward pass is to give, by the protocol of its sizes."""
  plan: dict[Protocol, tuple[Column, ...]] = {}
  for name in names:
    protocol = protocol_of(name, encoder, settings)
    own = (pooled_column(name, settings),) if SYSTEMS[name].pool is not None else classes
    plan[protocol] = tuple(dict.fromkeys((*plan.get(protocol, ()), *own)))
  return plan


def vector_key(encoder: Encoder, protocol: Protocol, settings: Mapping[str, Any]) -> str:
  """Key of what a vector depends on, besides its image and its system's function.

  That is weights, precision, sizes, settings and code; and JAX's version and the device, which a report names for its rows.
  """
  sizes: Any = (protocol.size_rule, protocol.image_size, protocol.size_multiple, protocol.reversed_means)
  own, preprocessing = encoder.settings, dataclasses.asdict(encoder.network.config.preprocessing)
  machine = (jax.__version__, jax.devices()[0].device_kind)
  return make_key(own.weights_sha256, own.dtype, own.tap, preprocessing, sizes, settings, hash_sources(*PASSES), machine)


def _shorten(name: str) -> str:
  """To what leaves room for more in the name of a folder, which has 255 bytes at most."""
  return os.fsdecode(os.fsencode(name)[:100])


def gather(parts, count: int) -> np.ndarray:
  """All rows of a column in one array."""
  found = None
  for places, rows in parts:
    found = np.zeros((count, *rows.shape[1:]), rows.dtype) if found is None else found
    found[places] = rows
  return np.zeros((0,)) if found is None else found
