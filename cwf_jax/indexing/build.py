"""Builds an index, or brings one up to date; whatever stops it, the next run takes up where it was.

    summary = build_index("photographs", "photographs.index")
    print(summary.indexed, summary.skipped)
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pyarrow as pa

from cwf_jax.encoder import Encoder, encode
from cwf_jax.errors import InputError, printable
from cwf_jax.extraction.passes import encode_system
from cwf_jax.images.listing import Listing, NoImagesError, list_images
from cwf_jax.images.loading import Batch, SkippedImage, fill_batches, load_images
from cwf_jax.index import schema, store
from cwf_jax.index.store import Index
from cwf_jax.indexing.committer import Committer
from cwf_jax.indexing.packing import describe_files, top_columns, vector_columns
from cwf_jax.indexing.plan import make_plan
from cwf_jax.indexing.settings import check_agreement, choose_settings, prepare_encoder
from cwf_jax.indexing.whitening import whiten_by_itself
from cwf_jax.load import load_encoder, load_recorded_encoder
from cwf_jax.ops.whitening import TooFewVectorsError, Whitening
from cwf_jax.runtime import default_batch_size, describe_versions, processors
from cwf_jax.systems.settings import system_settings


@dataclasses.dataclass(frozen=True)
class Summary:
  """What a run did.

  Attributes:
    indexed: files encoded and stored, new and changed ones.
    unchanged: files that were there already.
    moved: files found again by their content in another place; they are not encoded again.
    removed: rows removed since their files are gone.
    kept: ids of rows that are kept although their files are gone: more than half of all, or a whole folder.
    skipped: files that could not be read, with reasons.
    remarks: what was left out of the listing, one line for each kind.
    rows: images in the index now.
    seconds: by part: "compile", "read" (waiting for images), "encode" (waiting for the device), "write", "total".
    whitening: which one, in words.
    class_note: what to say where the names of classes should not be believed; else empty.
  """

  indexed: int
  unchanged: int
  moved: int
  removed: int
  kept: tuple[str, ...]
  skipped: tuple[SkippedImage, ...]
  remarks: tuple[str, ...]
  rows: int
  seconds: dict[str, float]
  whitening: str
  class_note: str


def build_index(
  images: str | os.PathLike,
  index: str | os.PathLike,
  encoder: Encoder | None = None,
  *,
  system: str | None = None,
  whitening: str | None = None,
  n_pca: int | None = None,
  dimensions: int | None = None,
  store_classes: str | int | None = None,
  keep_raw: bool | None = None,
  prefix: str = "",
  exclude: Sequence[str] = (),
  include_hidden: bool = False,
  remove: bool = False,
  batch_size: int | None = None,
  threads: int | None = None,
  progress: Callable[[int, int, int], Any] | None = None,
) -> Summary:
  """Encodes the images of a folder or a list file that the index does not hold yet, and removes those that are gone.

  Files that were moved or renamed are found again by their content, and a folder that was moved as a whole by half of its
  files; nothing of them is encoded again.

  Args:
    images: a folder, walked with all folders below it, or a list file (.txt, .lst, .list).
    index: the index's folder; made if it is not there.
    encoder: None means the one that an existing index was made with, or the default one.
    system: whose descriptors are stored and searched by: "ofa" (class-weighted), "rmac", "gem", "crow", "mac", "spoc", "ucrow",
      "raw", "raw_cw" or "cwr"; None means the index's own, for a new one "ofa". Another one than "ofa" stores no class
      vectors, has no whitening of the checkpoint's, and computes images at sizes of its own.
    whitening: "bundled", "self", "none" or another index; None means the index's own, for a new one the checkpoint's, if it
      has one.
    n_pca: the most probable classes of each image that "self" is fitted on; 1 if None.
    dimensions: of the whitening: "self" is fitted to this number, any other is cut to its first; all if None.
    store_classes: the class vectors stored for online and fixed search: a number (of each image's most probable), "all",
      or classes by name or id, separated by commas; 64 if None.
    keep_raw: the raw class vectors are stored too.
    prefix: put before the ids of this run, so that one index can hold several folders.
    exclude: patterns with `*` and `?` of files and folders to leave out: a pattern matches a name, or a whole path.
    include_hidden: takes in hidden files and folders, thumbnails and bins (`images.listing.HIDDEN`).
    remove: rows are removed even if more than half of them, or all below one folder, have lost their files; a folder that is
      empty or gone takes all its rows with it.
    batch_size: images on the device at a time.
    threads: that decode images; one for each processor if None.
    progress: called with (files done, files to do, files skipped).

  Raises:
    InputError: a wrong argument, an index of another encoder or with other settings, nothing to index.
    OSError: the index cannot be written: a full disk. What was committed before is there.
  """
  started = time.monotonic()
  for name, number in (("batch_size", batch_size), ("threads", threads)):
    if number is not None and number < 1:
      raise InputError(f"--{name} is at least 1; found {number}")
  if not prefix.isprintable():
    raise InputError(f"--prefix is made of characters that can be printed; found {prefix!r}")
  listing = _list(images, index, prefix, exclude, include_hidden, remove)
  chosen = None
  if not store.is_index(index):  # what is wrong is said before anything is written
    store.check_place(index)
    encoder, system = load_encoder() if encoder is None else encoder, system or "ofa"
    preset = encoder.settings.protocol.name
    encoder = prepare_encoder(encoder, system)
    chosen = choose_settings(encoder, whitening, n_pca, dimensions, store_classes, keep_raw, system, preset)
  with store.writing(index):
    if chosen is not None and not store.is_index(index):
      opened = Index.create(index, *chosen)
    else:
      opened = store.open_index(index)
      encoder = _agreeing_encoder(opened, encoder)
      asked = (whitening, n_pca, dimensions, store_classes, keep_raw, system)
      check_agreement(index, opened.settings, encoder.settings.classes, *asked)
    plan = make_plan(listing, opened, prefix, remove)
    opened.move(plan.moved)
    opened.delete(plan.removed)
    skipped = [SkippedImage(*pair) for pair in listing.skipped]
    unlisted = len(skipped)
    batch_size = batch_size or default_batch_size(encoder.settings.protocol)
    threads = threads or processors()
    mapper = Mapper(encoder, opened, listing.root, prefix)
    committer = Committer(opened, frozenset(prefix + image_id for image_id in plan.changed))
    loaded = load_images(listing, plan.todo, encoder.settings.protocol, threads, 2 * batch_size + threads)
    done = 0
    # Whatever stops it, Ctrl-C too: what is encoded is kept.
    with contextlib.closing(loaded), committer:
      for table in mapper.map(fill_batches(loaded, batch_size, skipped)):
        done += len(table)
        committer.add(table)
        if progress is not None:
          progress(done + len(skipped) - unlisted, len(plan.todo), len(skipped))
    told = _whiten(opened)
    opened.clean()
    if len(opened):
      opened.prepare()
  seconds = {**mapper.seconds, "write": committer.seconds, "total": time.monotonic() - started}
  changed = frozenset(plan.changed)
  return Summary(
    indexed=done,
    unchanged=plan.unchanged,
    moved=len(plan.moved.keys() - set(plan.kept) - {prefix + image_id for image_id in plan.changed}),
    removed=len(plan.removed),
    kept=plan.kept,
    skipped=tuple(_with_note(file) if file.id in changed else file for file in skipped),
    remarks=(*listing.remarks, *_remark_unlisted(listing, prefix, plan.removed)),
    rows=len(opened),
    seconds=seconds,
    whitening=told,
    class_note=encoder.settings.class_note,
  )


def _list(images, index, prefix: str, exclude: Sequence[str], include_hidden: bool, remove: bool) -> Listing:
  """The files of a folder or a list; none of a folder that is empty or gone, if its rows are to be removed."""
  try:
    return list_images(images, exclude, include_hidden)
  except NoImagesError:
    root = os.path.abspath(images)
    if remove and store.is_index(index) and store.open_index(index).files(root, prefix):
      return Listing(root, ())
    raise


def _remark_unlisted(listing: Listing, prefix: str, removed: Sequence[str]) -> Iterator[str]:
  """A line on rows that were removed although their files are there: they are not listed any more."""
  there = [name for name in removed if os.path.exists(listing.path(name.removeprefix(prefix)))]
  if there:
    yield f"removed though the file is there, since it is not listed any more: {printable(there[0])} ({len(there)} in all)"


class Mapper:
  """Encodes batches: one on the device while the host packs the one before. Knows neither the plan nor the commits.

  Attributes:
    seconds: spent by part: "compile", "read", "encode".
  """

  def __init__(self, encoder: Encoder, index: Index, root: str, prefix: str):
    """Rows are packed as `index`'s settings say; `root` and `prefix` are recorded with them."""
    self.seconds = {"compile": 0.0, "read": 0.0, "encode": 0.0}
    self._encoder = jax.device_put(encoder)
    self._settings = index.settings
    arrays = index.whitening
    self._whitening = None if arrays is None else Whitening(jnp.asarray(arrays["mean"]), jnp.asarray(arrays["projection"]))
    self._origin = root, prefix, describe_versions(encoder.settings.dtype)
    self._programs: dict[tuple[int, ...], Callable] = {}

  def map(self, batches: Iterable[Batch]) -> Iterator[pa.Table]:
    """Gives the rows of each batch."""
    before = None
    for batch in self._reading(batches):
      running = self._program(batch)(self._encoder, batch.images, batch.sizes)
      if before is not None:
        yield self._pack(*before)
      before = (batch.files, running)
    if before is not None:
      yield self._pack(*before)

  def _reading(self, batches: Iterable[Batch]) -> Iterator[Batch]:
    start = time.monotonic()
    for batch in batches:
      self.seconds["read"] += time.monotonic() - start
      yield batch
      start = time.monotonic()

  def _program(self, batch: Batch) -> Callable:
    shape = batch.images.shape
    if shape not in self._programs:
      start = time.monotonic()
      settings, given = self._settings, (self._encoder, batch.images, batch.sizes)
      if settings.num_vectors:
        own = system_settings(settings.preset, settings.num_classes)
        lowered = encode_system.lower(*given, settings.system, own, num_classes=settings.num_encoded)
      else:
        lowered = encode.lower(*given, num_classes=settings.num_encoded, listed=settings.stored.ids)
      self._programs[shape] = lowered.compile()
      self.seconds["compile"] += time.monotonic() - start
    return self._programs[shape]

  def _pack(self, files, running) -> pa.Table:
    start = time.monotonic()
    class_ids, probabilities = jax.device_get((running.class_ids, running.probabilities))
    columns = top_columns(self._settings, class_ids, probabilities)
    columns |= vector_columns(self._settings, self._whitening, class_ids, running.class_vectors)
    columns = {name: values[: len(files)] for name, values in columns.items()}
    self.seconds["encode"] += time.monotonic() - start
    return schema.to_table(self._settings, describe_files(files, *self._origin) | columns)


def _agreeing_encoder(index: Index, encoder: Encoder | None) -> Encoder:
  settings = index.settings
  if encoder is None:
    return load_recorded_encoder(f"the index {index.folder}", settings)
  encoder = prepare_encoder(encoder, settings.system)
  if encoder.settings.fingerprint != settings.fingerprint:
    raise InputError(
      f"the index {index.folder} was made by the encoder {settings.fingerprint[:12]} (weights {settings.weights}), "
      f"not by {encoder.settings.fingerprint[:12]} (weights {encoder.settings.weights})"
    )
  return encoder


def _with_note(file: SkippedImage) -> SkippedImage:
  return file._replace(reason=f"{file.reason}; the index keeps what it was made from before")


def _whiten(index: Index) -> str:
  origin = index.settings.whitening
  if not origin.pending:
    return {"none": "none", "bundled": "the checkpoint's own", "self": "this index's own"}.get(
      origin.source, f"that of {origin.source}"
    )
  try:
    return whiten_by_itself(index, origin.n_pca)
  except TooFewVectorsError as error:
    return f"none so far: {error}"
