import copy
import dataclasses
import pickle

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax import encoder as encoders
from cwf_jax.encoder import Encoder
from cwf_jax.errors import InputError
from cwf_jax.load import load_encoder
from cwf_jax.models.checkpoint import save_checkpoint
from cwf_jax.models.class_names import ClassList
from cwf_jax.ops import pooling
from cwf_jax.ops.whitening import fit_whitening
from cwf_jax.protocol import Protocol, fingerprint
from tests.oracle import encoding, whitening
from tests.oracle.deviation import assert_close

# From the activations on: sums over 64 channels and tens of cells in float32, as in tests/ops.
TOLERANCE = 1e-5
# Through the network's thirteen convolutions: a padded canvas adds the same terms in another order, an ulp or two a layer.
THROUGH_THE_NETWORK = 1e-4

TAPS = ("conv5_3", "pool3", "conv5_1")

call = jax.jit(Encoder.__call__)
activate = jax.jit(Encoder.activate, static_argnames="taps")
pool = jax.jit(Encoder.pool_classes)


def draw(b, height, width, seed=0):
  """Smooth images with a gradient and some noise, so that maps differ from cell to cell, filling their canvas."""
  random = np.random.default_rng(seed)
  coarse = random.integers(0, 256, size=(b, -(-height // 16), -(-width // 16), 3)).repeat(16, 1).repeat(16, 2)
  images = np.clip(coarse[:, :height, :width] + random.integers(-40, 41, size=(b, height, width, 3)), 0, 255)
  return jnp.asarray(images.astype(np.uint8)), jnp.full((b, 2), jnp.asarray([height, width], jnp.int32))


def pad(images, canvas, seed=9):
  """The images at the upper left of a larger canvas that is full of noise."""
  noise = np.random.default_rng(seed).integers(0, 256, size=(len(images), *canvas, 3)).astype(np.uint8)
  noise[:, : images.shape[1], : images.shape[2]] = images
  return jnp.asarray(noise)


def fit_own(tiny_encoder, dimensions=8):
  """A whitening fitted on the class vectors of some images."""
  images, sizes = draw(3, 64, 96, seed=5)
  return fit_whitening(np.asarray(call(tiny_encoder, images, sizes).class_vectors).reshape(-1, 32), dimensions)


def test_shapes_and_ranges(tiny_encoder):
  images, sizes = draw(3, 64, 96)
  found = call(tiny_encoder, images, sizes)
  assert found.class_vectors.shape == (3, 4, 32) and found.class_ids.shape == (3, 4)
  assert found.probabilities.shape == (3, 10)
  np.testing.assert_allclose(found.probabilities.sum(1), 1.0, rtol=1e-6)
  chosen = np.take_along_axis(np.asarray(found.probabilities), np.asarray(found.class_ids), axis=1)
  assert (np.diff(chosen) <= 0).all() and (chosen[:, 0] == found.probabilities.max(1)).all()
  lengths = np.linalg.norm(found.class_vectors, axis=-1)
  assert (np.isclose(lengths, 1.0, rtol=1e-5) | (lengths == 0)).all() and lengths.any()


@pytest.mark.parametrize(("b", "size"), [(1, (16, 16)), (3, (70, 96))], ids=str)
def test_encode_equals_the_oracle_from_its_activations(tiny_encoder, b, size):
  images, sizes = draw(b, *size)
  activations = activate(tiny_encoder, images, sizes)
  found = encoders.encode(tiny_encoder, images, sizes, 7)
  class_vectors, class_ids = encoding.encode(
    activations.features,
    activations.cam_features,
    activations.probabilities,
    tiny_encoder.network.class_weights,
    7,
    activations.mask,
  )
  np.testing.assert_array_equal(found.class_ids, class_ids)
  assert_close("encoder: class vectors", found.class_vectors, class_vectors, TOLERANCE)
  assert_close("encoder: descriptors", tiny_encoder.describe(found.class_vectors), encoding.aggregate(class_vectors), TOLERANCE)


def test_describe_with_and_without_a_whitening(tiny_encoder):
  images, sizes = draw(3, 64, 96)
  class_vectors = call(tiny_encoder, images, sizes).class_vectors.at[1, 2].set(0.0)
  chosen = fit_own(tiny_encoder)
  own = tiny_encoder.replace(whitening=chosen)
  other = dataclasses.replace(chosen, mean=jnp.zeros_like(chosen.mean))
  assert tiny_encoder.whiten(class_vectors) is class_vectors
  assert_close("encoder: descriptors", tiny_encoder.describe(class_vectors), encoding.aggregate(class_vectors), TOLERANCE)
  for found, used in (
    (tiny_encoder.describe(class_vectors, chosen), chosen),
    (own.describe(class_vectors), chosen),
    (own.describe(class_vectors, other), other),  # the one that is given counts
  ):
    expected = encoding.aggregate(whitening.apply(used.mean, used.projection, class_vectors))
    # whitening divides by small roots, see tests/ops/test_whitening
    assert_close("encoder: whitened descriptors", found, expected, 1e-4)
    assert found.shape == (3, 8)


@pytest.mark.parametrize("size", [(64, 96), (75, 90), (16, 30)], ids=str)
def test_padded_equals_unpadded(tiny_encoder, size):
  images, sizes = draw(2, *size)
  alone, padded = call(tiny_encoder, images, sizes), call(tiny_encoder, pad(images, (96, 96)), sizes)
  np.testing.assert_array_equal(padded.class_ids, alone.class_ids)
  assert_close("encoder: padded class vectors", padded.class_vectors, alone.class_vectors, THROUGH_THE_NETWORK)
  assert_close("encoder: padded probabilities", padded.probabilities, alone.probabilities, THROUGH_THE_NETWORK)


def test_activations_are_zero_outside_the_image(tiny_encoder):
  images, sizes = draw(2, 50, 70)
  found = activate(tiny_encoder, pad(images, (96, 96)), sizes, taps=TAPS)
  assert found.features.shape == (2, 6, 6, 32) and found.cam_features.shape == (2, 6, 6, 64)
  expected = np.zeros((2, 6, 6), bool)
  expected[:, :3, :4] = True  # floor(50 / 16) and floor(70 / 16)
  np.testing.assert_array_equal(found.mask, expected)
  for maps in (found.features, found.cam_features, found.taps["conv5_3"]):
    assert not np.asarray(maps)[~expected].any() and np.asarray(maps).min() == 0 and maps.dtype == jnp.float32


def test_taps(tiny_encoder):
  images, sizes = draw(2, 96, 96)
  found = activate(tiny_encoder, images, sizes, taps=TAPS)
  assert set(found.taps) == set(TAPS)
  np.testing.assert_array_equal(found.taps["conv5_1"], found.features)
  assert found.taps["conv5_3"].shape == (2, 6, 6, 32) and found.taps["pool3"].shape == (2, 12, 12, 16)
  assert activate(tiny_encoder, images, sizes).taps == {}
  with pytest.raises(ValueError, match="no tap named.*conv9_9"):  # noqa: RUF043
    tiny_encoder.activate(images, sizes, ("conv9_9",))


def test_a_pooling_of_ones_own(tiny_encoder):
  images, sizes = draw(2, 64, 96)
  found = activate(tiny_encoder, pad(images, (96, 96)), sizes)
  result = pooling.pool_sum(found.features, found.mask)
  assert_close("encoder: sums over cells", result, encoding.pool_sum(found.features, found.mask), TOLERANCE)


def test_a_cut_equals_pooling_the_cropped_activations(tiny_encoder):
  images, sizes = draw(2, 96, 96)
  activations = activate(tiny_encoder, images, sizes)
  class_ids = jnp.asarray([[3, 1, 7], [0, 9, 2]], jnp.int32)
  left, top, right, bottom = 2, 1, 6, 4
  cut = np.zeros((2, 6, 6), bool)
  cut[:, top:bottom, left:right] = True
  cropped = activations._replace(
    features=activations.features[:, top:bottom, left:right],
    cam_features=activations.cam_features[:, top:bottom, left:right],
    mask=activations.mask[:, top:bottom, left:right],
  )
  found = pool(tiny_encoder, activations, class_ids, jnp.asarray(cut))
  assert_close("encoder: class vectors of a cut", found, pool(tiny_encoder, cropped, class_ids), TOLERANCE)
  whole = pool(tiny_encoder, activations, class_ids)
  assert np.abs(np.asarray(found) - np.asarray(whole)).max() > 1e-2  # the cut matters
  assert not np.asarray(pool(tiny_encoder, activations, class_ids, jnp.zeros((2, 6, 6), bool))).any()


def test_a_cut_beyond_the_image_counts_only_what_is_inside(tiny_encoder):
  images, sizes = draw(2, 64, 64)
  activations = activate(tiny_encoder, pad(images, (96, 96)), sizes)
  class_ids = jnp.tile(jnp.arange(10), (2, 1))
  everything = pool(tiny_encoder, activations, class_ids, jnp.ones((2, 6, 6), bool))
  np.testing.assert_array_equal(everything, pool(tiny_encoder, activations, class_ids))


def test_more_classes_than_the_network_has(tiny_encoder):
  images, sizes = draw(2, 96, 96)
  found = encoders.encode(tiny_encoder, images, sizes, 99)
  np.testing.assert_array_equal(np.sort(found.class_ids), [range(10)] * 2)


def test_listed_classes_follow_the_own_ones(tiny_encoder):
  images, sizes = draw(2, 96, 96)
  found = encoders.encode(tiny_encoder, images, sizes, 4, (8, 2))
  own = call(tiny_encoder, images, sizes)
  np.testing.assert_array_equal(found.class_ids, np.concatenate([own.class_ids, [[8, 2]] * 2], axis=1))
  every = pool(tiny_encoder, activate(tiny_encoder, images, sizes), jnp.tile(jnp.arange(10), (2, 1)))
  expected = np.take_along_axis(np.asarray(every), np.asarray(found.class_ids)[..., None], axis=1)
  np.testing.assert_allclose(found.class_vectors, expected, atol=1e-6)  # sums in another order


def test_bfloat16_stays_near(tiny_encoder):
  images, sizes = draw(3, 64, 96)
  fast = dataclasses.replace(tiny_encoder, settings=dataclasses.replace(tiny_encoder.settings, dtype="bfloat16"))
  activations = activate(fast, images, sizes)
  assert activations.features.dtype == activations.cam_features.dtype == jnp.float32
  class_ids = jnp.tile(jnp.arange(10), (3, 1))
  expected = np.asarray(pool(tiny_encoder, activate(tiny_encoder, images, sizes), class_ids))
  cosines = (np.asarray(pool(fast, activations, class_ids)) * expected).sum(-1)
  assert cosines[expected.any(-1)].min() > 0.98  # 8 bits of mantissa; a cell at a ReLU's edge may fire in one of the two


def test_inside_anothers_jit_and_vmap(tiny_encoder):
  images, sizes = draw(3, 64, 96)
  whole = call(tiny_encoder, images, sizes)

  @jax.jit
  def compare(encoder, images, sizes):
    descriptors = encoder.describe(encoder(images, sizes).class_vectors)
    return descriptors @ descriptors.T

  descriptors = encoding.aggregate(whole.class_vectors)
  np.testing.assert_allclose(compare(tiny_encoder, images, sizes), descriptors @ descriptors.T, atol=1e-5)

  @jax.jit
  def encode_each(encoder, images, sizes):
    return jax.vmap(lambda image, size: encoder(image[None], size[None]))(images, sizes)

  mapped = encode_each(tiny_encoder, images, sizes)
  np.testing.assert_array_equal(mapped.class_ids[:, 0], whole.class_ids)
  np.testing.assert_allclose(mapped.class_vectors[:, 0], whole.class_vectors, atol=THROUGH_THE_NETWORK)


def test_gradient_through_the_network(tiny_encoder):
  images, sizes = draw(2, 64, 64)
  target = jnp.asarray(np.random.default_rng(3).normal(size=(2, 5, 32)), jnp.float32)
  class_ids = jnp.asarray([[0, 1, 2, 4, 5]] * 2)  # those with clear maps: at the edge of an empty one, vectors jump

  @jax.jit
  def measure(network):
    encoder = tiny_encoder.replace(network=network)
    activations = encoder.activate(images, sizes)
    return (encoder.pool_classes(activations, class_ids) * target).sum() + jnp.log(activations.probabilities[:, 2]).sum()

  def last_layers(network):
    return network.cam, network.classifier

  network, gradient = tiny_encoder.network, jax.jit(jax.grad(measure))(tiny_encoder.network)
  leaves = jax.tree.leaves(gradient)
  assert len(leaves) == len(jax.tree.leaves(network))
  assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in leaves)
  # A central difference along the gradient of the last layers, over 1e-3 of their space: a longer step crosses kinks of the
  # ReLUs. Rounding, 1e-6 of the sum of 20 vectors, and the curvature leave a thousandth.
  squared = sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(last_layers(gradient)))
  step = 1e-3 / np.sqrt(squared)

  def measure_shifted(step):
    copy = jax.tree.map(lambda leaf: leaf, network)
    change = jax.tree.map(lambda leaf, slope: leaf + step * slope, last_layers(network), last_layers(gradient))
    copy.cam, copy.classifier = change
    return float(measure(copy))

  slope = (measure_shifted(step) - measure_shifted(-step)) / (2 * step)
  np.testing.assert_allclose(slope, squared, rtol=0.01)


def test_one_program_for_each_canvas(tiny_encoder):
  traced = []

  @jax.jit
  def encode(encoder, images, sizes):
    traced.append(images.shape)
    return encoder(images, sizes).class_vectors

  for seed, size in enumerate([(64, 96), (50, 96), (64, 64), (33, 17)]):
    images, sizes = draw(2, *size, seed=seed)
    encode(tiny_encoder, pad(images, (64, 96)), sizes)
  copied = jax.tree.unflatten(jax.tree.structure(tiny_encoder), [leaf + 0 for leaf in jax.tree.leaves(tiny_encoder)])
  encode(copied, *draw(2, 64, 96, seed=7))  # other weights, the same settings
  assert traced == [(2, 64, 96, 3)]
  encode(tiny_encoder, *draw(2, 96, 64))
  assert traced == [(2, 64, 96, 3), (2, 96, 64, 3)]


def test_is_a_pytree(tiny_encoder):
  own = tiny_encoder.replace(whitening=fit_own(tiny_encoder))
  for encoder in (tiny_encoder, own):
    leaves, structure = jax.tree.flatten(encoder)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    again = jax.tree.unflatten(structure, leaves)
    assert again.settings is encoder.settings and jax.tree.structure(again) == structure
    images, sizes = draw(2, 96, 96)
    for ours, theirs in zip(call(again, images, sizes), call(encoder, images, sizes), strict=True):
      np.testing.assert_array_equal(ours, theirs)
  assert len(jax.tree.leaves(own)) == len(jax.tree.leaves(tiny_encoder)) + 2


@pytest.mark.parametrize("name", ["random:vgg16_cam_quarter", "random:mobilenet_v2", "random:efficientnet_lite0"])
def test_a_copy_and_a_pickle_give_equal_results_by_the_same_program(name):
  """The networks' activations are ReLU, ReLU6 and both with linear layers."""
  encoder = load_encoder(name, image_size=64, num_classes=4)
  images, sizes = draw(1, 64, 96)
  expected, programs = call(encoder, images, sizes), call._cache_size()
  for again in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
    assert again.settings == encoder.settings and jax.tree.structure(again) == jax.tree.structure(encoder)
    for ours, theirs in zip(call(again, images, sizes), expected, strict=True):
      np.testing.assert_array_equal(ours, theirs)
  assert call._cache_size() == programs


def test_an_encoder_says_what_it_is_in_a_line(tiny_encoder):
  settings = tiny_encoder.settings
  start = f"Encoder(VGG16CAM, weights={settings.weights!r}, sha256={settings.weights_sha256[:12]}, image_size=64, classes=10, "
  assert repr(tiny_encoder) == f"{start}summed=4, dimensions=32, whitened=False, dtype=float32)"
  assert "dimensions=8, whitened=True" in repr(tiny_encoder.replace(whitening=fit_own(tiny_encoder)))


def test_settings_are_values(tiny_encoder):
  settings = tiny_encoder.settings
  again = dataclasses.replace(settings)
  assert again == settings and hash(again) == hash(settings)
  for change in ({"dtype": "bfloat16"}, {"protocol": Protocol.paper(64, 5)}, {"tap": "conv5_3"}, {"fingerprint": "x"}):
    assert dataclasses.replace(settings, **change) != settings
  with pytest.raises(dataclasses.FrozenInstanceError):
    settings.tap = "conv5_3"


def test_a_loaded_checkpoint_gives_equal_results(tiny_encoder, tiny_checkpoint):
  loaded = load_encoder(str(tiny_checkpoint), num_classes=4)
  assert loaded.settings.protocol == Protocol.paper(64, 4)  # the size is the checkpoint's own
  assert loaded.settings.classes == ClassList.numbered(10)
  assert loaded.settings.weights_folder == str(tiny_checkpoint) and not loaded.settings.is_random
  assert loaded.settings.dtype == "float32" and loaded.whitening is None
  assert loaded.settings.weights_sha256 == tiny_encoder.settings.weights_sha256
  assert loaded.settings.fingerprint == tiny_encoder.settings.fingerprint
  images, sizes = draw(2, 96, 96)
  for ours, theirs in zip(call(loaded, images, sizes), call(tiny_encoder, images, sizes), strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_keeps_its_whitening(tiny_encoder, tmp_path):
  chosen = fit_own(tiny_encoder)
  arrays = {"mean": np.asarray(chosen.mean), "projection": np.asarray(chosen.projection)}
  save_checkpoint(
    tmp_path / "mine",
    tiny_encoder.network,
    network_name="vgg16_cam_quarter",
    classes=ClassList.numbered(10),
    whitening=arrays,
  )
  loaded = load_encoder(str(tmp_path / "mine"))
  np.testing.assert_array_equal(loaded.whitening.projection, chosen.projection)
  class_vectors = call(tiny_encoder, *draw(2, 96, 96)).class_vectors
  np.testing.assert_array_equal(loaded.describe(class_vectors), tiny_encoder.describe(class_vectors, chosen))


def test_load_encoder_settings(tiny_checkpoint):
  folder = str(tiny_checkpoint)
  assert load_encoder(folder).settings.protocol == Protocol.paper(64, 10)  # no more classes than the network has
  assert load_encoder(folder, image_size=128, num_classes=3).settings.protocol == Protocol.paper(128, 3)
  own = dataclasses.replace(Protocol.paper(96, 2), expand_with_query=True)
  assert load_encoder(folder, own, image_size=128, num_classes=3).settings.protocol == own
  assert load_encoder(folder, dtype="bfloat16").settings.dtype == "bfloat16"


def test_reference_reverses_the_means(tiny_checkpoint, tiny_encoder):
  paper, reference = (load_encoder(str(tiny_checkpoint), name, num_classes=4) for name in ("paper", "reference"))
  assert paper.settings.preprocessing.mean == (103.939, 116.779, 123.68)  # of blue, green and red
  assert reference.settings.preprocessing.mean == (123.68, 116.779, 103.939)
  assert reference.settings.protocol == Protocol.reference(64, 4)
  assert reference.settings.fingerprint != paper.settings.fingerprint
  settings = reference.settings
  assert settings.fingerprint == fingerprint(
    settings.weights_sha256, dataclasses.asdict(settings.preprocessing), "conv5_1", settings.protocol
  )
  images, sizes = draw(2, 96, 96)
  ours, theirs = activate(reference, images, sizes).features, activate(paper, images, sizes).features
  assert np.abs(np.asarray(ours) - np.asarray(theirs)).max() > 1e-3
  # blue, the first channel, loses red's mean; rounding of float32 numbers up to 255
  difference = reference.settings.preprocessing.apply(images) - paper.settings.preprocessing.apply(images)
  np.testing.assert_allclose(difference[0, 0, 0], [103.939 - 123.68, 0.0, 123.68 - 103.939], atol=1e-4)


def test_load_encoder_errors(tmp_path, tiny_checkpoint):
  with pytest.raises(InputError, match="no weights 'nowhere'"):
    load_encoder("nowhere")
  with pytest.raises(InputError, match=r"--mode=fetch --weights=vgg16_cam downloads them, --mode=convert makes them"):
    load_encoder("vgg16_cam")
  with pytest.raises(InputError, match="no network is named 'vgg'"):
    load_encoder("random:vgg")
  with pytest.raises(InputError, match="is not a checkpoint"):
    load_encoder(str(tmp_path))
  with pytest.raises(InputError, match="no protocol named 'papre'"):
    load_encoder(str(tiny_checkpoint), "papre")
  with pytest.raises(InputError, match="image_size"):
    load_encoder(str(tiny_checkpoint), image_size=8)


@hypothesis.settings(max_examples=5)
@hypothesis.given(st.integers(0, 99))
def test_a_batch_is_its_images(tiny_encoder, seed):
  images, sizes = draw(3, 64, 96, seed)
  whole = call(tiny_encoder, images, sizes)
  for i in range(3):
    alone = call(tiny_encoder, images[i : i + 1], sizes[i : i + 1])
    np.testing.assert_array_equal(alone.class_ids[0], whole.class_ids[i])
    np.testing.assert_allclose(alone.class_vectors[0], whole.class_vectors[i], atol=THROUGH_THE_NETWORK)


def test_a_protocol_of_ones_own_gets_sizes_that_the_network_takes():
  given = load_encoder("random:mobilenet_v2", Protocol.paper(224, 32)).settings
  preset = load_encoder("random:mobilenet_v2", image_size=224).settings
  assert given.protocol == preset.protocol and given.fingerprint == preset.fingerprint
  assert all(side % 32 == 0 for canvas in given.protocol.canvases for side in canvas)


def test_the_last_map_is_pooled_where_it_is_asked_for():
  """X is the map A that CAMs are made of, as the authors have it for ResNet-50: METHOD eq. 1 to 4 without resizing."""
  encoder = load_encoder("random:mobilenet_v2", image_size=64, num_classes=4, feature_map="last")
  images, sizes = draw(2, 64, 96)
  activations = activate(encoder, images, sizes)
  output = encoder.network(encoder.settings.preprocessing.apply(images), sizes)
  assert_close("encoder: the last map", activations.features, output.cam_features, THROUGH_THE_NETWORK)
  assert activations.features.shape == (2, 2, 3, encoder.feature_channels) and activations.mask.shape == (2, 2, 3)
  found = call(encoder, images, sizes)
  weights = encoder.network.class_weights
  cam_features, probabilities = activations.cam_features, activations.probabilities
  expected, ids = encoding.encode(activations.features, cam_features, probabilities, weights, 4, activations.mask)
  np.testing.assert_array_equal(found.class_ids, ids)
  assert_close("encoder: class vectors", found.class_vectors, expected, TOLERANCE)
  assert encoder.settings.fingerprint != load_encoder("random:mobilenet_v2", image_size=64, num_classes=4).settings.fingerprint
  with pytest.raises(InputError, match="feature_map is one of stride16, last; found 'first'"):
    load_encoder("random:mobilenet_v2", feature_map="first")


def test_a_checkpoints_whitening_is_not_for_the_last_map():
  encoder = load_encoder("default", feature_map="last")
  assert (encoder.whitening, encoder.cell_whitening, encoder.feature_channels) == (None, None, 1280)
