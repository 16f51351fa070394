"""The weights that come with the package: whole, small, and of a network that sees something."""

from pathlib import Path

import jax
import numpy as np
import pytest

from cwf_jax.datasets.photographs import SOURCES, open_photograph
from cwf_jax.encoder import most_probable
from cwf_jax.images.canvases import fit_image, stack
from cwf_jax.images.decoding import decode_image
from cwf_jax.load import load_encoder
from cwf_jax.models.checkpoint import load_weights
from cwf_jax.models.class_names import ClassList

IMAGES = Path(__file__).parents[3] / "shared/data/images"


@pytest.fixture(scope="module")
def encoder():
  return load_encoder()


def test_they_are_a_trained_network_of_imagenets_classes_with_a_whitening():
  loaded = load_weights("default")
  assert (loaded.name, loaded.network_name, loaded.is_random) == ("default", "vgg16_cam_small", False)
  assert loaded.classes == ClassList.imagenet()
  channels = loaded.network.config.feature_channels
  assert loaded.whitening["projection"].shape == (channels, channels)
  assert loaded.metadata["training"]["teacher"] == "mobilenet_v2"


def test_they_take_at_most_12_mb():
  folder = Path(load_weights("default").folder)
  assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 12e6


def test_they_lie_in_the_top_folder_weights_too():
  assert (Path(__file__).parents[2] / "weights/default").resolve() == Path(load_weights("default").folder).resolve()


def test_the_classifiers_weights_are_centered_over_the_classes(encoder):
  weights = np.asarray(encoder.network.class_weights, np.float64)
  assert np.abs(weights.sum(1)).max() < 1000 * 2**-11 * np.abs(weights).max()  # each is rounded to half precision


def empty_maps(encoder, pictures) -> tuple[int, int]:
  """How many maps of the 64 most probable classes are empty, and how many there are."""

  @jax.jit
  def highest(encoder, images, sizes):
    activations = encoder.activate(images, sizes)
    return encoder.compute_cams(activations, most_probable(activations, 64)).max((1, 2))

  empty = count = 0
  for picture in pictures:
    fitted = fit_image(picture, encoder.settings.protocol)
    found = np.asarray(highest(encoder, *stack([fitted], fitted.canvas, 1)))
    empty, count = empty + (found == 0).sum(), count + found.size
  return empty, count


@pytest.mark.long
def test_no_more_than_one_map_in_a_hundred_is_empty_on_the_demos_photographs(encoder):
  names = [Path(file).stem for files in SOURCES.values() for file in files]
  empty, count = empty_maps(encoder, [np.asarray(open_photograph(name)) for name in names])
  assert count and empty <= 0.01 * count


@pytest.mark.skipif(not IMAGES.is_dir(), reason="needs the photographs in ../shared/data/images")
def test_no_more_than_one_map_in_a_hundred_is_empty_on_other_photographs(encoder):
  empty, count = empty_maps(encoder, [decode_image(path) for path in sorted(IMAGES.iterdir())])
  assert count == 40 * 64 and empty <= 0.01 * count
