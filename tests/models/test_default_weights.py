"""The weights that every installation has: whole, small, and of networks that see something."""

from pathlib import Path

import jax
import numpy as np
import pytest

from cwf_jax.encoder import most_probable
from cwf_jax.images.canvases import fit_image, stack
from cwf_jax.images.decoding import decode_image
from cwf_jax.load import load_encoder, load_weights
from cwf_jax.models.class_names import ClassList
from cwf_jax.retrieval.explanation import explain
from cwf_jax.toy.photographs import SOURCES, open_photograph

ROOT = Path(__file__).parents[2]
IMAGES = ROOT.parent / "shared/data/images"
needs_photographs = pytest.mark.skipif(not IMAGES.is_dir(), reason="needs the photographs in ../shared/data/images")


@pytest.fixture(scope="module")
def encoder():
  return load_encoder()


@pytest.mark.parametrize(("name", "network"), [("default", "efficientnet_lite0"), ("vgg16_cam_small", "vgg16_cam_small")])
def test_they_are_a_trained_network_of_imagenets_classes_with_a_whitening(name, network):
  loaded = load_weights(name)
  assert (loaded.name, loaded.network_name, loaded.is_random) == (name, network, False)
  assert loaded.classes == ClassList.imagenet()
  channels = loaded.network.config.feature_channels
  assert loaded.whitening["projection"].shape == (channels, channels)


def test_what_the_package_ships_is_small_and_lies_in_the_top_folder_weights_too():
  folder = ROOT / "cwf_jax/weights"
  assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 16e6
  assert (ROOT / "weights/vgg16_cam_small").resolve() == Path(load_weights("vgg16_cam_small").folder).resolve()


def test_the_classifiers_weights_of_the_trained_network_are_centered_over_the_classes():
  weights = np.asarray(load_weights("vgg16_cam_small").network.class_weights, np.float64)
  assert np.abs(weights.sum(1)).max() < 1000 * 2**-11 * np.abs(weights).max()  # each is rounded to half precision


def count_empty_maps(encoder, pictures) -> tuple[int, int]:
  """How many maps of the 64 most probable classes are empty, and how many there are."""

  @jax.jit
  def highest(encoder, images, sizes):
    activations = encoder.activate(images, sizes)
    return encoder.compute_cams(activations, most_probable(activations, 64)).max((1, 2))

  empty = count = 0
  for picture in pictures:
    fitted = fit_image(picture, encoder.settings.protocol)
    maxima = np.asarray(highest(encoder, *stack([fitted], fitted.canvas, 1)))
    empty, count = empty + (maxima == 0).sum(), count + maxima.size
  return empty, count


@pytest.mark.long
def test_no_more_than_one_map_in_a_hundred_is_empty_on_the_demos_photographs(encoder):
  names = [Path(file).stem for files in SOURCES.values() for file in files]
  empty, count = count_empty_maps(encoder, [np.asarray(open_photograph(name)) for name in names])
  assert count and empty <= 0.01 * count


@needs_photographs
def test_no_more_than_one_map_in_a_hundred_is_empty_on_other_photographs(encoder):
  empty, count = count_empty_maps(encoder, [decode_image(path) for path in sorted(IMAGES.iterdir())])
  assert count == 40 * 64 and empty <= 0.01 * count


@needs_photographs
def test_the_default_network_names_36_of_40_photographs(encoder):
  names = dict(zip(encoder.settings.classes.wnids, encoder.settings.classes.names, strict=True))
  photographs = sorted(IMAGES.iterdir())
  right = [path for path in photographs if explain(encoder, path).classes[0].name == names[path.name.partition("_")[0]]]
  assert len(photographs) == 40 and len(right) >= 36
