"""MobileNetV2's published weights, converted, against Keras on its JAX backend.

Every map, with random weights, is compared in tests/models.
"""

import jax
import numpy as np
import pytest

from cwf_jax.conversion import tables
from cwf_jax.images.decoding import decode_image, resize_image
from tests.conversion.foreign import DATA, REAL
from tests.models import peers
from tests.oracle.deviation import assert_close

PROBABILITIES = 1e-4  # sums of up to 1,280 products in float32, in another order and folded or not, through 53 layers


@pytest.mark.skipif(not REAL[tables.KERAS_H5].exists(), reason="the project's data pack (shared/data) is not here")
def test_real_weights_give_the_probabilities_of_keras():
  keras, source = peers.load_keras(), REAL[tables.KERAS_H5]
  images = np.stack([resize_image(decode_image(path), 224, 224) for path in sorted((DATA / "images").iterdir())])
  assert len(images) == 40
  model = keras.applications.MobileNetV2(weights=None)
  model.load_weights(source)
  prepared = keras.applications.mobilenet_v2.preprocess_input(images.astype(np.float32))
  theirs = np.asarray(jax.jit(lambda pixels: model(pixels, training=False))(prepared))
  network = peers.convert(source, "mobilenet_v2")
  pixels = network.config.preprocessing.apply(images)
  ours = np.asarray(jax.nn.softmax(peers.forward(network, pixels, np.array([(224, 224)] * len(images))).logits))
  assert_close("MobileNetV2's probabilities against Keras, real weights", ours, theirs, PROBABILITIES)
  np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))
