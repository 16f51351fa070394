"""What an encoder's programs are like from outside: cut among devices, named as the method names its stages, and refusing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cwf_jax.encoder import Encoder
from cwf_jax.errors import InputError
from cwf_jax.ops.whitening import fit_whitening

_CUT = """
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
jax.config.update("jax_default_matmul_precision", "highest")
from cwf_jax import Encoder, load_encoder
encoder = load_encoder("random:vgg16_cam_quarter", image_size=32, num_classes=8)
images = np.random.default_rng(0).integers(0, 256, (16, 32, 48, 3), np.uint8)
sizes = np.tile(np.array([[32, 48], [20, 33]], np.int32), (8, 1))
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
whole, cut = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))

@jax.jit
def encode(encoder, images, sizes):
  encoding = Encoder.__call__(encoder, images, sizes)
  return encoder.describe(encoding.class_vectors), encoding

# two images at a time, as each device has them: a batch of another size sums in another order
pairs = [encode(encoder, images[start : start + 2], sizes[start : start + 2]) for start in range(0, 16, 2)]
alone = jax.tree.map(lambda *parts: np.concatenate(parts), *pairs)
arguments = jax.device_put(encoder, whole), *jax.device_put((images, sizes), cut)
together = encode(*arguments)
assert jax.device_count() == 8
for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
  assert ours.sharding.is_equivalent_to(cut, ours.ndim), ours.sharding
  np.testing.assert_allclose(ours, theirs, atol=2e-6)
np.testing.assert_array_equal(together[1].class_ids, alone[1].class_ids)
program = encode.lower(*arguments).compile().as_text()
assert not any(name in program for name in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))
"""


def test_a_batch_cut_among_eight_devices_is_encoded_without_a_word_between_them():
  flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
  environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
  root = Path(__file__).parent.parent
  done = subprocess.run([sys.executable, "-c", _CUT], cwd=root, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


STAGES = (
  *("network/conv1_1", "network/conv5_3", "network/cam", "network/classifier", "most_probable", "compute_cams"),
  *("compute_channel_weights", "pool_class_vectors", "apply_whitening", "aggregate"),
)


def test_a_profile_reads_like_the_method(tiny_encoder, compiled_anew):
  """Profilers show the names that operations carry; they are no part of a kept program's key."""
  vectors = np.random.default_rng(0).normal(size=(40, 32))
  encoder = tiny_encoder.replace(whitening=fit_whitening(vectors, 6))

  @jax.jit
  def describe(encoder, images, sizes):
    return encoder.describe(encoder(images, sizes).class_vectors)

  images, sizes = np.zeros((1, 32, 48, 3), np.uint8), np.array([[32, 48]])
  names = set(re.findall(r'op_name="([^"]*)"', describe.lower(encoder, images, sizes).compile().as_text()))
  for stage in STAGES:
    assert any(f"/{stage}/" in name for name in names), f"no operation is named {stage}"


_REFUSED = """
import jax, jax.numpy as jnp, numpy as np
from cwf_jax import Encoder, load_encoder
encoder = load_encoder("random:vgg16_cam_quarter", image_size=32, num_classes=8)
images, sizes = np.zeros((2, 32, 48, 3), np.uint8), np.array([[32, 48], [16, 16]])
for case in (
  (images[0], sizes),
  (images[..., :1], sizes),
  (images[:0], sizes[:0]),
  (images, sizes[:1]),
  (images, sizes.astype(np.float32)),
  (np.zeros((2, 32, 144, 3), np.uint8), sizes.astype(np.int8)),
):
  for encode in (Encoder.__call__, jax.jit(Encoder.__call__)):
    try:
      encode(encoder, *map(jnp.asarray, case))
    except ValueError as error:
      print(error)
"""


def test_wrong_axes_are_refused_when_it_is_traced():
  """In a process of its own: under the tests' checks of types, those would come first."""
  root = Path(__file__).parent.parent
  done = subprocess.run([sys.executable, "-c", _REFUSED], cwd=root, capture_output=True, text=True)
  expected = [
    "activate: images is [b h w 3]; found the shape (32, 48, 3)",
    "activate: images [b h w 3] has the shape (2, 32, 48, 1): the axis that is 3 has 1",
    "activate: images [b h w 3] has the shape (0, 32, 48, 3): b is 0, and there must be one at least",
    "activate: sizes [b 2] has the shape (1, 2): b is 2 in images [b h w 3]",
    "sizes [b 2] are whole numbers of pixels; found float32",
    "sizes [b 2] are int8, too short for the canvas's 32x144 pixels: use int32",
  ]
  assert done.stdout.splitlines() == [line for line in expected for _ in range(2)], done.stderr


IMAGES = np.zeros((2, 32, 48, 3), np.uint8)


@pytest.mark.parametrize("size", [(33, 48), (32, 49), (15, 48), (-1, 48), (2**40, 48)])
def test_sizes_that_are_known_are_those_of_images_in_their_canvas(tiny_encoder, size):
  sizes = np.array([[32, 48], size], np.int64)
  with pytest.raises(ValueError, match=rf"at most the canvas's 32x48; found \({size[0]}, {size[1]}\) in 1 of 2 images"):
    tiny_encoder.activate(IMAGES, sizes)


def test_sizes_may_be_lists_or_tuples(tiny_encoder):
  images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
  encode = jax.jit(Encoder.__call__)
  expected = encode(tiny_encoder, images, np.array([[32, 48], [20, 33]]))
  for sizes in ([[32, 48], [20, 33]], ((32, 48), (20, 33))):
    for ours, theirs in zip(encode(tiny_encoder, images, sizes), expected, strict=True):
      np.testing.assert_array_equal(ours, theirs)
  with pytest.raises(ValueError, match=r"at most the canvas's 32x48; found \(32, 49\) in 1 of 2 images"):
    tiny_encoder.activate(images, [(32, 49), (32, 48)])
  with pytest.raises(ValueError, match=r"sizes \[b 2\] has the shape \(1, 2\): b is 2 in images"):
    tiny_encoder.activate(images, [[32, 48]])
  with pytest.raises(ValueError, match=r"are \(height, width\) of each image; found \[\[32, 48\], \[32\]\]"):
    tiny_encoder.activate(images, [[32, 48], [32]])


def test_floats_up_to_one_are_refused_on_the_host_only(tiny_encoder):
  images, sizes = np.full((1, 32, 48, 3), 0.5, np.float32), [(32, 48)]
  with pytest.raises(InputError, match=r"0 to 255; found float32 values of at most 0\.5: multiply them by 255"):
    tiny_encoder(images, sizes)
  one, other = tiny_encoder.activate(jax.numpy.asarray(images), sizes), jax.jit(Encoder.activate)(tiny_encoder, images, sizes)
  np.testing.assert_allclose(one.features, other.features, atol=1e-4)  # compiled as a whole, or operation by operation


def test_a_nan_spoils_its_own_image_alone(tiny_encoder):
  images = np.random.default_rng(0).uniform(0, 255, (3, 32, 48, 3)).astype(np.float32)
  sizes = np.full((3, 2), (32, 48))
  encode = jax.jit(Encoder.__call__)
  before = encode(tiny_encoder, images, sizes)
  images[1, 5, 7] = np.nan
  after = encode(tiny_encoder, images, sizes)
  assert np.isnan(after.probabilities[1]).all()
  for ours, theirs in zip(after, before, strict=True):
    np.testing.assert_array_equal(np.asarray(ours)[[0, 2]], np.asarray(theirs)[[0, 2]])


def test_images_have_a_gradient_as_floats(tiny_encoder):
  images = np.random.default_rng(0).uniform(0, 255, (1, 32, 48, 3)).astype(np.float32)

  @jax.jit
  def measure(images):
    return tiny_encoder.activate(images, np.array([[32, 40]])).logits[0, 3]

  gradient = np.asarray(jax.jit(jax.grad(measure))(images))
  assert np.isfinite(gradient).all() and gradient[:, :, :40].any() and not gradient[:, :, 40:].any()


def test_another_network_is_not_taken_for_the_one_that_was_loaded(tiny_encoder):
  changed = tiny_encoder.replace(network=tiny_encoder.network)
  assert changed.settings.fingerprint == changed.settings.weights == "changed" != tiny_encoder.settings.fingerprint
  assert tiny_encoder.replace(whitening=None).settings == tiny_encoder.settings
  again = changed.replace(network=tiny_encoder.network)
  assert again.settings == changed.settings  # a loop over steps is traced once more only


@pytest.mark.parametrize(("count", "listed"), [(-1, ()), (2, (10,)), (2, (-1,))])
def test_classes_that_are_none_are_refused(tiny_encoder, count, listed):
  with pytest.raises(ValueError, match="classes are counted from 0 and listed from 0 to 9"):
    tiny_encoder.encode(IMAGES, np.array([[32, 48]] * 2), count, listed)
