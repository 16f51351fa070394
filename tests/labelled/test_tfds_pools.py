"""Data sets that tensorflow-datasets prepared as array records, made and read here without TensorFlow."""

import io
import json
import pathlib
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cwf_jax.labelled.class_folders import open_pool
from cwf_jax.labelled.pool import PoolError

CLASSES = ("tulip", "daisy", "rose", "lily")
"""As the data set orders them; there is no lily."""


def _encode(number):
  file = io.BytesIO()
  Image.fromarray(np.full((20 + number, 30, 3), number * 8, np.uint8)).save(file, "JPEG")
  return file.getvalue()


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  VERSION = tfds.core.Version("1.0.0")
  pkg_dir_path = pathlib.Path(__file__).parent
  features = tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
      "label": tfds.features.ClassLabel(names=CLASSES),
      "filename": tfds.features.Text(),
    }
  )
  splits = (("train", range(20)), ("test", range(20, 25)))
  keys = ("image", "label")

  def _info(self):
    return self.dataset_info_from_configs(features=self.features, supervised_keys=self.keys)

  def _split_generators(self, manager):
    return {name: self._generate_examples(numbers) for name, numbers in self.splits}

  def _generate_examples(self, numbers):
    for number in numbers:
      yield number, {"image": io.BytesIO(_encode(number)), "label": self._label(number), "filename": f"{number}.jpg"}

  def _label(self, number):
    return number % 3


class Flowers(_Builder, skip_registration=True):
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="small", description="small pictures")]  # noqa: RUF012


class Unlabeled(_Builder, skip_registration=True):
  splits = (("train", range(20)), ("test", range(20, 25)), ("validation", range(25, 30)))

  def _label(self, number):
    return -1 if number < 4 or number >= 25 else number % 3


class Alike(_Builder, skip_registration=True):
  splits = (("train", range(3)), ("other", range(3)))

  def _label(self, number):
    return 1


class Twins(_Builder, skip_registration=True):
  features = tfds.features.FeaturesDict({"left": tfds.features.Image(), "right": tfds.features.Image()})
  keys = None

  def _generate_examples(self, numbers):
    for number in numbers:
      yield number, {"left": io.BytesIO(_encode(number)), "right": io.BytesIO(_encode(number))}


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
  """Prepares a data set once; gives its folder."""
  root = tmp_path_factory.mktemp("tfds")
  tfds.core.add_data_dir(root)
  tfds.disable_progress_bar()
  folders = {}

  def once(builder_class):
    if builder_class not in folders:
      builder = builder_class(data_dir=root, file_format="array_record")
      builder.download_and_prepare()
      folders[builder_class] = pathlib.Path(builder.data_path)
    return folders[builder_class]

  return once


def _copy(prepare, tmp_path, builder_class=Flowers):
  return pathlib.Path(shutil.copytree(prepare(builder_class), tmp_path / "flowers" / "1.0.0"))


def _refusal(source, split="train", **settings):
  with pytest.raises(PoolError) as caught:
    open_pool(source, (), split, **settings)
  assert "\n" not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize(
  "source",
  [None, "tfds:flowers/small", "tfds:flowers:small", "tfds:flowers/small:1.0.0", "tfds:flowers:small:1.0.0", "tfds:flowers"],
)
def test_images_stay_encoded_and_classes_are_sorted(prepare, source):
  folder = prepare(Flowers)
  pool = open_pool(source or folder, ())
  assert pool.classes == ("daisy", "rose", "tulip") and pool.skipped == ()
  assert pool.names == tuple(f"train/{row:02}" for row in range(20))
  encoded = {_encode(number): CLASSES[number % 3] for number in range(20)}
  assert {pool.read(row): pool.classes[pool.labels[row]] for row in range(20)} == encoded
  held_out = open_pool(source or folder, (), "val")
  assert held_out.names == tuple(f"test/{row}" for row in range(5))
  assert {held_out.read(row) for row in range(5)} == {_encode(number) for number in range(20, 25)}


def test_records_are_read_from_many_threads(prepare):
  pool = open_pool(prepare(Flowers), ())
  with ThreadPoolExecutor(8) as executor:
    read = list(executor.map(pool.read, list(range(20)) * 20))
  assert read == [pool.read(row) for row in range(20)] * 20
  kept = pool.keep([3, 17])
  assert [kept.read(0), kept.read(1)] == [pool.read(3), pool.read(17)] and kept.names == ("train/03", "train/17")


def test_tensorflow_stays_out(prepare):
  open_pool(prepare(Flowers), ())
  assert "tensorflow" not in sys.modules


def test_images_without_a_label_are_left_out_and_told(prepare):
  pool = open_pool(prepare(Unlabeled), ())
  assert len(pool) == 16 and len(pool.skipped) == 4 and {reason for _, reason in pool.skipped} == {"no label"}
  assert not set(pool.names) & {name for name, _ in pool.skipped}
  encoded = {_encode(number): CLASSES[number % 3] for number in range(4, 20)}
  assert {pool.read(row): pool.classes[pool.labels[row]] for row in range(16)} == encoded
  assert "no image of the split validation" in _refusal(prepare(Unlabeled), "val")


def test_one_class(prepare):
  assert "at least 2 class folders, found 1: daisy" in _refusal(prepare(Alike))


def test_a_split_that_is_not_there(prepare):
  assert open_pool(prepare(Alike), (), "val", optional=True) is None
  assert _refusal(prepare(Alike), "val").endswith(", but train, other")


def test_without_one_image_and_one_label(prepare):
  assert "should have one feature that is an Image; found left, right" in _refusal(prepare(Twins))


def test_other_formats_are_refused_with_the_way_out(prepare, tmp_path):
  folder = _copy(prepare, tmp_path)
  info = json.loads((folder / "dataset_info.json").read_text())
  (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
  for path in folder.glob("*.array_record*"):
    path.rename(path.with_name(path.name.replace("array_record", "tfrecord")))
  message = _refusal(folder)
  assert "prepared as tfrecord" in message and 'tfds.builder("flowers/small", file_format="array_record")' in message


def test_damaged_data_sets(prepare, tmp_path):
  folder = _copy(prepare, tmp_path)
  records = folder / "flowers-train.array_record-00000-of-00001"
  content = records.read_bytes()
  for damaged in (content[: len(content) // 2], b"", bytes(len(content))):
    records.write_bytes(damaged)
    assert "is damaged" in _refusal(folder)
  records.unlink()
  assert "is damaged" in _refusal(folder)
  (folder / "features.json").write_text("{")
  _refusal(folder)
  (folder / "dataset_info.json").write_text("{")
  assert "cannot be opened by tensorflow-datasets" in _refusal(folder)


def test_data_sets_that_are_not_prepared(tmp_path, monkeypatch):
  monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
  message = _refusal("tfds:mnist")
  assert "is not prepared" in message and 'tfds.builder("mnist", file_format="array_record")' in message


@pytest.mark.parametrize("name", ["no_such_data_set", "flowers/large", "flowers:2.0.0"])
def test_unknown_data_sets(prepare, name):
  prepare(Flowers)
  assert "knows no data set" in _refusal(f"tfds:{name}")


@pytest.mark.parametrize("name", ["", "../x", "a b;c", "cifar10_1/v9"])
def test_names_that_are_none(name):
  assert "cannot be opened by tensorflow-datasets" in _refusal(f"tfds:{name}")
