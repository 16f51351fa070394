"""Labelled images that tensorflow-datasets prepared as array records, as they are stored, read without TensorFlow.

    pool = open_tfds_pool("tfds:imagenette/320px-v2", "train", optional=False)
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int32

from cwf_jax.errors import printable
from cwf_jax.labelled.pool import SPLITS, Pool, PoolError, check_classes

_FORMAT = "array_record"
_PREFIX = "tfds:"


def open_tfds_pool(source: str, split: str, optional: bool) -> Pool | None:
  """Reads the labels of all records once, and with them the records.

  The images are those of the data set's one image feature (or of the first of its supervised pair), the classes the names of
  its one class label that have an image. An image's name is its split and its place in it.

  Args:
    source: `tfds:NAME`, followed by `/CONFIG` and `:VERSION` where wanted, looked for in `$TFDS_DATA_DIR` or where
      tensorflow-datasets keeps its data; or a folder that it prepared, with `dataset_info.json`.
    split: "train" or "val".
    optional: a split that is not there gives None.

  Raises:
    PoolError: there is no such data set or split, it is not prepared, not as array records, damaged, or without one image and
      one label.
  """
  builder = _find_builder(source)
  try:
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    splits, features = builder.info.splits, builder.info.features
  except Exception as error:
    raise PoolError(f"{printable(source)} cannot be read by tensorflow-datasets: {_describe(error)}") from error
  if _FORMAT not in formats:
    raise PoolError(
      f"{printable(source)} is prepared as {' and '.join(sorted(formats))}, which is read with TensorFlow only; prepare it in "
      f"another folder with {_how_to_prepare(builder)}"
    )
  name = next((name for name in SPLITS[split] if name in splits and splits[name].num_examples), None)
  if name is None:
    if optional:
      return None
    raise PoolError(f"there is no split {' or '.join(SPLITS[split])} in {printable(source)}, but {', '.join(splits) or 'none'}")
  image = _find_feature(source, builder.info, tfds.features.Image, 0)
  label = _find_feature(source, builder.info, tfds.features.ClassLabel, 1)
  records = builder.as_data_source(name, decoders={image: tfds.decode.SkipDecoding()}, file_format=_FORMAT)
  found = _read_labels(source, records, label)
  classes = features[label].names
  order = sorted(range(len(classes)), key=classes.__getitem__)
  places = np.argsort(np.array(order, np.int32)).astype(np.int32)
  names = tuple(f"{name}/{row:0{len(str(len(found) - 1))}}" for row in range(len(found)))
  pool = Pool(
    source=source,
    classes=tuple(classes[place] for place in order),
    names=names,
    labels=np.where(found < 0, 0, places[found]),
    skipped=tuple((names[row], "no label") for row in np.flatnonzero(found < 0)),
    rows=np.arange(len(found)),
    reader=lambda row: _read(records, row, image),
  ).keep(np.flatnonzero(found >= 0))
  if not len(pool):
    raise PoolError(f"no image of the split {name} of {printable(source)} has a label")
  if split == "train":
    check_classes(source, pool.classes)
  return pool


def _find_builder(source: str) -> tfds.core.DatasetBuilder:
  is_folder = not source.startswith(_PREFIX)
  # NAME:CONFIG is NAME/CONFIG; what follows a colon and begins with a number is a version.
  name = re.sub(r":(?![\d*])", "/", source.removeprefix(_PREFIX))
  try:
    builder = tfds.builder_from_directory(os.path.abspath(source)) if is_folder else tfds.builder(name)
  except tfds.core.DatasetNotFoundError:  # its own message lists a thousand data sets
    raise PoolError(f"tensorflow-datasets knows no data set {printable(name)!r}, nor is one prepared by that name") from None
  except Exception as error:  # wrong names and configurations, damaged files, code of a data set that needs TensorFlow
    raise PoolError(f"{printable(source)} cannot be opened by tensorflow-datasets: {_describe(error)}") from error
  if not is_folder and not (Path(builder.data_path) / "dataset_info.json").is_file():
    raise PoolError(
      f"{printable(source)} is not prepared: there is no {printable(builder.data_path)}; prepare it with "
      f"{_how_to_prepare(builder)}, or set TFDS_DATA_DIR to the folder that holds it"
    )
  return builder


def _how_to_prepare(builder: tfds.core.DatasetBuilder) -> str:
  name = f"{builder.name}/{builder.builder_config.name}" if builder.builder_config else builder.name
  return f'tfds.builder("{name}", file_format="{_FORMAT}").download_and_prepare()'


def _find_feature(source: str, info: tfds.core.DatasetInfo, kind: type, place: int) -> str:
  features = info.features
  found = [name for name in features if isinstance(features[name], kind)] if hasattr(features, "keys") else []
  pair = info.supervised_keys or ()
  if len(pair) == 2 and pair[place] in found:
    return pair[place]
  if len(found) == 1:
    return found[0]
  known = ", ".join(sorted(found)) or "none"
  raise PoolError(f"{printable(source)} should have one feature that is an {kind.__name__}; found {known}")


def _read_labels(source: str, records: Sequence[dict[str, Any]], label: str) -> Int32[np.ndarray, "n"]:
  try:
    return np.array([_read(records, row, label) for row in range(len(records))], np.int32)
  except OSError as error:
    raise PoolError(f"{printable(source)} is damaged: {error}; prepare it again") from error


def _read(records: Sequence[dict[str, Any]], row: int, feature: str) -> Any:
  try:
    value = records[row][feature]
  except Exception as error:  # array_record and protobuf raise many kinds on damaged files
    raise OSError(f"record {row} cannot be read: {_describe(error)}") from error
  if value is None:  # what a file that was cut off gives
    raise OSError(f"record {row} is empty")
  return value


def _describe(error: Exception) -> str:
  return printable(" ".join(str(error).split()))[:200] or type(error).__name__
