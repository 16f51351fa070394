import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cwf_jax.encoder import encode
from cwf_jax.images.canvases import fit_image, stack
from cwf_jax.load import load_encoder
from cwf_jax.models import parameters, registry
from cwf_jax.models.checkpoint import LoadedNetwork
from cwf_jax.models.class_names import ClassList
from cwf_jax.ops.whitening import TooFewVectorsError, fit_whitening
from cwf_jax.training import normalization
from cwf_jax.training.batches import Batch
from cwf_jax.training.finish import finish, fit_own_whitening, measure_accuracy
from tests.oracle.deviation import assert_close
from tests.training.conftest import STUDENT, draw_student
from tests.training.test_normalization import forward, randomize

NAME = "vgg16_cam_quarter"


def _uncenter(network):
  """Weights and biases with a part that all classes have in common, as training leaves them."""
  generator = np.random.default_rng(5)
  for parameter in (network.classifier.kernel, network.classifier.bias):
    shape = parameter[...].shape
    common = generator.normal(0.5, 0.5, (*shape[:-1], 1)) + generator.normal(0, 0.1, shape)
    parameter.set_value(parameter[...] + jnp.asarray(common, jnp.float32))


@pytest.mark.parametrize("normalized", [False, True])
def test_a_finished_network_is_folded_and_centered_and_its_probabilities_stay(normalized):
  network = draw_student()
  _uncenter(network)
  if normalized:
    normalization.insert(network)
    randomize(network)
    network.eval()
  images = jnp.asarray(np.random.default_rng(1).standard_normal((3, 32, 32, 3), np.float32))
  before = forward(network, images)
  finished = finish(network, NAME)
  after = forward(finished, images)
  for parameter in (finished.classifier.kernel, finished.classifier.bias):
    sums = np.asarray(parameter[...], np.float64).sum(-1)
    assert np.abs(sums).max() < 1e-6  # of five values of about 1 in float32
  assert np.abs(np.asarray(network.classifier.kernel[...]).sum(-1)).max() > 0.1
  # What is taken away is the same for all classes: softmax of float32 logits that were larger by it.
  assert_close("finished: probabilities", jax.nn.softmax(after.logits), jax.nn.softmax(before.logits), 1e-5)
  assert_close("finished: CAM features", after.cam_features, before.cam_features, 1e-5)
  plain = parameters.list_parameters(registry.build_abstract(NAME, STUDENT))
  assert parameters.describe_arrays(parameters.list_parameters(finished)) == parameters.describe_arrays(plain)


def test_what_is_finished_stays_when_it_is_finished_again():
  network = finish(draw_student(), NAME)
  again = finish(network, NAME)
  for path, array in parameters.list_parameters(network).items():
    np.testing.assert_allclose(parameters.list_parameters(again)[path], array, atol=1e-7)  # the mean of rounding


def _make_batches(labels, side=40):
  generator = np.random.default_rng(0)
  batches = []
  for part in labels:
    sizes = generator.integers(16, side + 1, (len(part), 2))
    images = np.zeros((len(part), side, side, 3), np.uint8)
    for image, (height, width) in zip(images, sizes, strict=True):
      image[:height, :width] = generator.integers(0, 256, (height, width, 3))
    batches.append(Batch(images, sizes.astype(np.int32), np.array(part, np.int32)))
  return batches


@pytest.fixture(scope="module")
def ten():
  """A network of ten classes, of which five can be wrong."""
  return registry.build(NAME, dataclasses.replace(STUDENT, num_classes=10), seed=2)


def _rank_one_by_one(network, batch, side):
  """Whole images stretched by Pillow, one at a time: the classes of each, the most probable first."""
  found = []
  for image, (height, width) in zip(batch.images, batch.sizes, strict=True):
    channels = [
      Image.fromarray(image[:height, :width, channel].astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
      for channel in range(3)
    ]
    pixels = jnp.asarray(np.stack([np.asarray(channel) for channel in channels], -1))[None]
    logits = forward(network, network.config.preprocessing.apply(pixels)).logits[0]
    found.append(np.argsort(-np.asarray(logits)).tolist())
  return found


def test_accuracy_equals_the_loop(ten):
  batches = _make_batches([[0, 1, 2, 3, 4, 5], [6, 7, -1, 8, 9, -1], [3, 3, 3, 3, -1, -1]])
  first = among_five = count = 0
  for place, batch in enumerate(batches):
    ranked = _rank_one_by_one(ten, batch, 32)
    labels = batch.labels.copy()
    if place == 0:  # else chance would decide whether anything is right
      labels[:3] = ranked[0][0], ranked[1][0], ranked[2][3]
      batches[0] = batch._replace(labels=labels)
    for label, order in zip(labels, ranked, strict=True):
      if label >= 0:
        first, among_five, count = first + (order[0] == label), among_five + (label in order[:5]), count + 1
  found = measure_accuracy(ten, iter(batches), 32)
  assert found == {"top1": pytest.approx(first / count), "top5": pytest.approx(among_five / count)}
  assert count == 14 and 2 <= first < among_five < count
  assert all(type(value) is float for value in found.values())


def test_without_a_label_there_is_no_accuracy(ten):
  found = measure_accuracy(ten, _make_batches([[-1] * 6]), 32)
  assert math.isnan(found["top1"]) and math.isnan(found["top5"])
  assert all(math.isnan(value) for value in measure_accuracy(ten, [], 32).values())


def test_with_fewer_than_five_classes_all_are_among_the_five():
  network = registry.build(NAME, dataclasses.replace(STUDENT, num_classes=3))
  found = measure_accuracy(network, _make_batches([[0, 1, 2, 0, 1, 2]]), 32)
  assert found["top5"] == 1.0 and 0 <= found["top1"] <= 1


@pytest.fixture(scope="module")
def encoder():
  network = draw_student(seed=1)
  classes = ClassList.numbered(5)
  loaded = LoadedNetwork(network, "trained", NAME, classes, parameters.hash_parameters(network))
  return load_encoder(loaded, image_size=32)


@pytest.fixture(scope="module")
def pictures(encoder):
  """On two canvases."""
  generator = np.random.default_rng(0)
  shapes = [(32, 32), (40, 64), (32, 60)]
  return [fit_image(generator.integers(0, 256, (*shapes[n % 3], 3), np.uint8), encoder.settings.protocol) for n in range(23)]


def _encode_one_by_one(encoder, pictures, n_pca):
  """Each in a batch of its own, of four places."""
  rows = []
  for one in pictures:
    images, sizes = stack([one], one.canvas, 4)
    rows += list(np.asarray(encode(encoder, images, sizes, num_classes=n_pca).class_vectors[0]))
  return np.stack(rows)


@pytest.mark.parametrize("n_pca", [1, 3])
def test_the_whitening_is_that_of_the_class_vectors(encoder, pictures, n_pca):
  vectors = _encode_one_by_one(encoder, pictures, n_pca)
  filled = vectors[np.any(vectors != 0, axis=1)]
  whitening, count = fit_own_whitening(encoder, iter(pictures), n_pca, 4)
  assert count == len(filled)
  dimensions = min(16, count // 3)
  assert whitening.projection.shape == (16, dimensions)
  expected = fit_whitening(vectors, dimensions)
  assert_close("own whitening: mean", whitening.mean, expected.mean, 1e-6)

  def compare_all(one):
    whitened = (filled - np.asarray(one.mean, np.float64)) @ np.asarray(one.projection, np.float64)
    return whitened @ whitened.T

  # sums in float64 of another order, rounded to float32 once
  assert_close("own whitening: inner products", compare_all(whitening), compare_all(expected), 1e-5)


def test_of_few_images_the_whitening_has_fewer_dimensions(encoder, pictures):
  whitening, count = fit_own_whitening(encoder, pictures[:7], 1, 4)
  assert count == 7 and whitening.projection.shape == (16, 2)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_of_too_few_images_there_is_no_whitening(encoder, pictures, count):
  with pytest.raises(TooFewVectorsError):
    fit_own_whitening(encoder, pictures[:count], 1, 4)
