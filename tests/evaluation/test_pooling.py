"""One forward pass for all systems: against the encoder's own descriptors, the oracle's whitening, and its programs counted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.encoder import Encoder, encode
from cwf_jax.errors import InputError
from cwf_jax.evaluation.image_source import open_images
from cwf_jax.evaluation.pooling import (
  OFA,
  OWN,
  PLAIN,
  WHITENED,
  Fit,
  Key,
  Pooled,
  describe,
  describe_images,
  fit_whitenings,
  pool_images,
)  # fmt: skip
from cwf_jax.evaluation.systems import POOLED
from cwf_jax.images.canvases import fit_image, stack
from cwf_jax.images.decoding import decode_image
from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.whitening import EIGENVALUE_FLOOR, Whitening
from tests.oracle import whitening as oracle

COUNTS = (1, 2, 4, 64)
"""Of ten classes; the last is more than there are."""

# Unit rows in float32: sums of at most ten of them, and before that of at most 30 cells.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def source(photographs):
  return open_images(photographs)


@pytest.fixture(scope="module")
def alone(tiny_encoder, source):
  """Of each image, encoded in a batch of one: its class vectors and its pooled vectors."""
  found, activate = {}, jax.jit(Encoder.activate)
  for image_id in source.ids:
    fitted = fit_image(decode_image(source.path(image_id)), tiny_encoder.settings.protocol)
    images, sizes = stack([fitted], fitted.canvas, 1)
    activations = activate(tiny_encoder, images, sizes)
    vectors = {name: np.asarray(pool(activations.features, activations.mask))[0] for name, pool in POOLED.items()}
    found[image_id] = vectors, np.asarray(encode(tiny_encoder, images, sizes, 10).class_vectors)[0]
  return found


@pytest.fixture(scope="module")
def own():
  generator = np.random.default_rng(0)
  mean, projection = (jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in ((32,), (32, 7)))
  return Whitening(mean / 20, projection)


@pytest.mark.parametrize("batch_size", [1, None])
def test_descriptors_are_those_of_an_image_alone(tiny_encoder, source, alone, own, batch_size):
  encoder = tiny_encoder.replace(whitening=own)
  some = tuple(reversed(source.ids))  # rows come in the order that is asked for
  told = []
  found = describe_images(encoder, source, some, {}, COUNTS, batch_size, told.append)
  expected_keys = {*(Key(name, PLAIN) for name in POOLED), *(Key(f"{OFA}{n}", v) for n in COUNTS for v in (PLAIN, OWN))}
  assert set(found) == expected_keys and sum(told) == 12
  for row, image_id in enumerate(some):
    vectors, class_vectors = alone[image_id]
    for name in POOLED:
      np.testing.assert_allclose(found[Key(name, PLAIN)][row], vectors[name], atol=TOLERANCE)
    for count in COUNTS:
      first = jnp.asarray(class_vectors[None, :count])
      for variant, descriptor in ((PLAIN, aggregate(first)), (OWN, encoder.describe(first))):
        np.testing.assert_allclose(found[Key(f"{OFA}{count}", variant)][row], descriptor[0], atol=TOLERANCE)
  assert found[Key("ofa64", PLAIN)].shape == (12, 32) and found[Key("ofa64", OWN)].shape == (12, 7)
  assert all(rows.dtype == np.float32 for rows in found.values())


@pytest.mark.parametrize(("images", "n_pca", "dimensions"), [(12, 1, 4), (12, 4, 4), (7, 10, 2)])
def test_whitenings_are_the_oracle_s(tiny_encoder, source, alone, images, n_pca, dimensions):
  some = source.ids[:images]
  fits = fit_whitenings(pool_images(tiny_encoder, source, some, 10, 5), n_pca)
  assert set(fits) == {*POOLED, OFA}
  found = describe_images(tiny_encoder, source, source.ids, fits, (1, 3), 5)
  for name in POOLED:
    assert fits[name] == fits[name]._replace(vectors=images, left_out=0) and fits[name].dimensions == dimensions
    rows = np.stack([alone[image_id][0][name] for image_id in source.ids])
    mean, projection = oracle.fit(rows[:images], dimensions, EIGENVALUE_FLOOR)
    expected = oracle.apply(mean, projection, rows)
    _check_scores(found[Key(name, WHITENED)], expected)
  class_vectors = np.stack([alone[image_id][1] for image_id in source.ids])
  fitted_on = class_vectors[:images, :n_pca].reshape(-1, 32)
  present = fitted_on[(fitted_on != 0).any(1)]
  assert (fits[OFA].vectors, fits[OFA].left_out) == (len(present), len(fitted_on) - len(present))
  assert fits[OFA].dimensions == max(1, min(32, len(present) // 3))
  mean, projection = oracle.fit(present, fits[OFA].dimensions, EIGENVALUE_FLOOR)
  whitened = oracle.apply(mean, projection, class_vectors.reshape(-1, 32)).reshape(12, 10, -1)
  for count in (1, 3):
    total = whitened[:, :count].sum(1)
    _check_scores(found[Key(f"{OFA}{count}", WHITENED)], total / np.linalg.norm(total, axis=1, keepdims=True))


def _check_scores(ours, theirs):
  """Whitening divides by roots of eigenvalues down to 1e-4 of the largest, and so do float32's 1e-7 grow."""
  np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-4)


def _pooled(class_vectors, raw=None):
  class_vectors = np.asarray(class_vectors, np.float32)
  rows = class_vectors[:, 0] if raw is None else np.asarray(raw, np.float32)
  return Pooled(dict.fromkeys(POOLED, rows), class_vectors)


def test_a_fit_leaves_out_what_is_zero_or_not_finite_and_says_how_many():
  vectors = np.random.default_rng(0).normal(size=(30, 1, 4)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
  spoiled = np.concatenate([vectors, np.zeros((2, 1, 4), np.float32), np.full((1, 1, 4), np.nan, np.float32)])
  clean, odd = (fit_whitenings([(range(len(some)), _pooled(some))]) for some in (vectors, spoiled))
  for name in (*POOLED, OFA):
    assert (odd[name].vectors, odd[name].left_out, odd[name].dimensions) == (30, 3, 4) and clean[name].left_out == 0
    np.testing.assert_array_equal(odd[name].whitening.projection, clean[name].whitening.projection)


def test_places_that_hold_no_image_are_not_fitted_on():
  vectors = np.random.default_rng(0).normal(size=(9, 2, 4)).astype(np.float32)
  batches = [(range(5), _pooled(vectors[:6])), (range(3), _pooled(vectors[6:]))]
  assert [fit.vectors for fit in fit_whitenings(batches, n_pca=2).values()] == [8, 8, 16]


@pytest.mark.parametrize("vectors", [np.zeros((9, 1, 4)), np.tile(np.eye(4)[:1], (9, 1, 1)), np.eye(4)[:1, None]])
def test_too_few_vectors_and_vectors_all_alike_give_no_whitening(vectors):
  fits = fit_whitenings([(range(len(vectors)), _pooled(vectors))])
  assert all(fit.whitening is None and fit.dimensions == 0 for fit in fits.values())
  assert {key.variant for key in describe(_pooled(vectors), fits, None, (1,))} == {PLAIN}


def test_a_descriptor_without_any_vector_stays_zero(own):
  vectors = np.zeros((2, 3, 32), np.float32)
  vectors[1, 2, 0] = 1
  fits = {OFA: Fit(own, 100, 0)}
  found = describe(_pooled(vectors), fits, own, (1, 3))
  for variant in (PLAIN, WHITENED, OWN):
    assert not found[Key("ofa1", variant)].any() and not found[Key("ofa3", variant)][0].any()
    np.testing.assert_allclose(np.linalg.norm(found[Key("ofa3", variant)][1]), 1, rtol=1e-6)


def test_a_canvas_is_one_program_for_fits_and_descriptors_together(tiny_encoder, source, compilations):
  # An encoder that no other test has compiled: its settings are static.
  encoder = dataclasses.replace(tiny_encoder, settings=dataclasses.replace(tiny_encoder.settings, weights="counted"))
  canvases = {fit_image(decode_image(source.path(i)), encoder.settings.protocol).canvas for i in source.ids}
  fits = fit_whitenings(pool_images(encoder, source, source.ids, 4, 2))
  describe_images(encoder, source, source.ids, fits, (1, 4), 2)
  assert sum("pool_systems" in name for name in compilations) == len(canvases) > 1
  before = len(compilations)
  describe_images(encoder, source, source.ids[:5], fits, (1, 4), 2)
  assert len(compilations) == before


def test_an_image_that_cannot_be_read_is_told(tiny_encoder, tmp_path):
  (tmp_path / "broken.jpg").write_bytes(b"nothing")
  listing = open_images(tmp_path)
  with pytest.raises(InputError, match=r"1 images of .* cannot be read, the first is broken.jpg: not an image"):
    describe_images(tiny_encoder, listing, listing.ids, {}, (1,))


def test_batches_are_on_the_host(tiny_encoder, source):
  ids, pooled = next(iter(pool_images(tiny_encoder, source, source.ids[:3], 4, 2)))
  assert len(ids) <= 2 and all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(pooled))
  assert pooled.class_vectors.shape == (2, 4, 32)
