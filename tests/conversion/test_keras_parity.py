"""Converted networks against Keras on its JAX backend: probabilities and every map, for real weights and for random ones.

The real weights have one mean, variance and gamma for all channels of a layer; only the random ones show the order of
channels, epsilon and the fold. Keras saves those itself, in both layouts.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.conversion import tables
from cwf_jax.conversion.convert import read_network
from cwf_jax.images.decoding import decode_image, resize_image
from cwf_jax.models import parameters, registry
from tests.conversion.foreign import DATA, REAL
from tests.oracle.deviation import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own

# Sums of up to 1,280 products in float32, in another order and folded or not, through 53 layers.
PROBABILITIES = 1e-4
MAPS = 1e-4
SIZE = (96, 160)
"""Another size than the network's own, not square, both sides multiples of 32."""


@pytest.fixture(scope="module")
def keras():
  os.environ.setdefault("KERAS_BACKEND", "jax")
  found = pytest.importorskip("keras", reason="Keras, whose networks are converted, comes with the extra peers")
  if found.backend.backend() != "jax":
    pytest.skip(f"Keras runs on {found.backend.backend()} here: KERAS_BACKEND is set otherwise")
  return found


def _keras_names(network):
  """The layer of Keras that ends in each of our taps."""
  names = {"conv1": "Conv1_relu", "block0_depthwise": "expanded_conv_depthwise_relu", "cam": "out_relu"}
  return {tap: names.get(tap, tap.replace("block", "block_") + "_relu") for tap in network.config.tap_names}


@pytest.fixture(scope="module")
def model(keras):
  """Keras's network for images of any size with random weights, scaled so that every map stays of the order of 1.

  Each channel has a variance of its own, from far below epsilon to far above, and a kernel that about fits it.
  """
  made = keras.applications.MobileNetV2(input_tensor=keras.Input((None, None, 3)), weights=None)
  generator = np.random.default_rng(0)
  norms = [layer for layer in made.layers if isinstance(layer, keras.layers.BatchNormalization)]
  kernels = [layer for layer in made.layers if layer.weights and layer not in norms]
  for layer, norm in zip(kernels, norms, strict=False):
    shape = layer.weights[0].shape
    count = norm.gamma.shape[0]
    variance = 10.0 ** generator.uniform(-4, 0, count)  # epsilon is 1e-3
    spread = np.sqrt(variance / np.prod(shape) * count)
    layer.set_weights([generator.normal(size=shape) * spread.reshape(-1, 1 if shape[-1] == 1 else count)])
    mean = generator.normal(0, 0.3, count) * np.sqrt(variance)
    norm.set_weights([generator.uniform(1.0, 2.0, count), generator.normal(0.3, 0.3, count), mean, variance])
  top = made.get_layer("predictions")
  top.set_weights([top.get_weights()[0], generator.normal(size=top.bias.shape)])
  return made


@pytest.fixture(scope="module")
def expected(keras, model, tmp_path_factory):
  """What Keras computes with the random weights, the images, and the files that it saved."""
  names = _keras_names(registry.build_abstract("mobilenet_v2"))
  outputs = {"probabilities": model.output, **{tap: model.get_layer(name).output for tap, name in names.items()}}
  inner = keras.Model(model.inputs, outputs)
  images = np.random.default_rng(1).integers(0, 256, (2, *SIZE, 3), np.uint8)
  prepared = keras.applications.mobilenet_v2.preprocess_input(images.astype(np.float32))
  folder = tmp_path_factory.mktemp("keras")
  paths = {tables.KERAS_H5: folder / "model.h5", tables.KERAS3: folder / "model.weights.h5"}
  model.save(paths[tables.KERAS_H5])
  model.save_weights(paths[tables.KERAS3])
  return jax.device_get(jax.jit(lambda pixels: inner(pixels, training=False))(prepared)), images, paths


@functools.partial(jax.jit, static_argnames="taps")
def _run(network, images, taps=()):
  sizes = jnp.broadcast_to(jnp.asarray(images.shape[1:3], jnp.int32), (len(images), 2))
  result = network(network.config.preprocessing.apply(images), sizes, taps)
  return {"probabilities": jax.nn.softmax(result.logits), **result.taps}


@pytest.fixture(scope="module")
def read():
  """The network of a file."""

  def run(path, layout):
    found, arrays, notes = read_network(path, "mobilenet_v2")
    assert (found, notes) == (layout, ())
    return parameters.with_parameters(registry.build_abstract("mobilenet_v2"), arrays)

  return run


def test_both_layouts_of_keras_give_the_same_parameters(expected, read):
  first, second = (parameters.list_parameters(read(path, layout)) for layout, path in expected[2].items())
  for path, array in first.items():
    np.testing.assert_array_equal(array, second[path])


def test_every_map_of_random_weights_is_that_of_keras(expected, read):
  theirs, images, paths = expected
  network = read(paths[tables.KERAS_H5], tables.KERAS_H5)
  ours = _run(network, images, network.config.tap_names)
  assert set(ours) == set(theirs)
  for name in sorted(set(theirs) - {"probabilities"}):
    assert np.std(theirs[name]) > 0.1, f"{name} says nothing: {np.std(theirs[name])}"
    assert_close("MobileNetV2's maps against Keras, random batch norm", ours[name], theirs[name], MAPS)
  assert theirs["probabilities"].max() > 2e-3  # of 1,000 classes
  assert_close(
    "MobileNetV2's probabilities against Keras, random batch norm", ours["probabilities"], theirs["probabilities"], MAPS
  )


@pytest.mark.skipif(not REAL[tables.KERAS_H5].exists(), reason="the project's data pack (shared/data) is not here")
def test_real_weights_give_the_probabilities_of_keras(keras, model, expected, read):
  source = REAL[tables.KERAS_H5]
  images = np.stack([resize_image(decode_image(path), 224, 224) for path in sorted((DATA / "images").iterdir())])
  assert len(images) == 40
  model.load_weights(source)
  prepared = keras.applications.mobilenet_v2.preprocess_input(images.astype(np.float32))
  theirs = np.asarray(jax.jit(lambda pixels: model(pixels, training=False))(prepared))
  network = read(source, tables.KERAS_H5)
  ours = np.asarray(_run(network, images)["probabilities"])
  assert_close("MobileNetV2's probabilities against Keras, real weights", ours, theirs, PROBABILITIES)
  np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))
