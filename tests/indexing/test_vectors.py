"""Which vectors are stored, raw and whitened, and with whose whitening."""

import shutil

import jax.numpy as jnp
import lance
import numpy as np
import pytest

from cwf_jax.encoder import encode
from cwf_jax.errors import InputError
from cwf_jax.images.canvases import fit_image, stack
from cwf_jax.images.decoding import decode_image
from cwf_jax.index import schema
from cwf_jax.index.schema import to_array
from cwf_jax.index.store import open_index
from cwf_jax.indexing import whitening
from cwf_jax.ops.whitening import Whitening, fit_whitening
from tests.indexing.rows import build_index, describe_directly, rows_of


@pytest.mark.parametrize("stored", ["0", "2,5"])
def test_raw_vectors_are_kept_when_asked_for(photographs, tmp_path, tiny_encoder, stored):
  build_index(photographs, tmp_path / "i", tiny_encoder, store_classes=stored, keep_raw=True, whitening="none")
  index = open_index(tmp_path / "i")
  table = index.take(index.order(), ["id", "raw_class_ids", "raw_class_vectors", "top_class_ids", "top_probabilities"])
  for row in table.to_pylist():
    fitted = fit_image(decode_image(photographs / row["id"]), tiny_encoder.settings.protocol)
    listed = (2, 5) if stored != "0" else ()
    encoding = encode(tiny_encoder, *stack([fitted], fitted.canvas, 1), num_classes=4, listed=listed)
    assert row["raw_class_ids"] == encoding.class_ids[0].tolist()
    vectors = np.reshape(row["raw_class_vectors"], (len(row["raw_class_ids"]), -1))
    np.testing.assert_allclose(vectors, encoding.class_vectors[0], atol=1e-5)
    assert row["top_class_ids"] == encoding.class_ids[0, :4].tolist()
    np.testing.assert_allclose(row["top_probabilities"], encoding.probabilities[0][encoding.class_ids[0, :4]], atol=1e-5)


@pytest.mark.parametrize(
  ("stored", "kind", "count"),
  [("3", "own", 3), ("64", "own", 10), ("0", "none", 0), ("all", "all", 10), ("class 7, 2", "list", 2)],
)
def test_class_vectors_are_stored_as_they_are_searched(photographs, tmp_path, tiny_encoder, stored, kind, count):
  build_index(photographs, tmp_path / "i", tiny_encoder, store_classes=stored, whitening="none")
  index = open_index(tmp_path / "i")
  assert (index.settings.stored.kind, index.settings.stored.count) == (kind, count)
  name = "a/picture_03.png"
  fitted = fit_image(decode_image(photographs / name), tiny_encoder.settings.protocol)
  encoding = encode(tiny_encoder, *stack([fitted], fitted.canvas, 1), num_classes=10)
  expected = dict(zip(np.asarray(encoding.class_ids[0]).tolist(), np.asarray(encoding.class_vectors[0]), strict=True))
  row = next(
    place for place, one in enumerate(index.take(np.arange(12), ["id"])["id"].to_pylist()) if one == name
  )
  if kind == "all":
    columns = [f"class_{class_id:05d}" for class_id in range(10)]
    table = index.take(np.array([row]), ["class_scales", *columns])
    ids, vectors = list(range(10)), np.stack([to_array(table[column])[0] for column in columns])
  elif kind == "none":
    data = lance.dataset(str(tmp_path / "i/images.lance"))
    assert not any(column.startswith("class_") for column in data.schema.names) and "descriptor" in data.schema.names
    return
  else:
    table = index.take(np.array([row]), ["class_ids", "class_vectors", "class_scales"])
    ids = to_array(table["class_ids"])[0].tolist()
    vectors = to_array(table["class_vectors"])[0].reshape(len(ids), -1)
    assert ids == ([7, 2] if kind == "list" else np.asarray(encoding.class_ids[0, :count]).tolist())
  assert vectors.dtype == np.int8
  for class_id, vector, scale in zip(ids, vectors, to_array(table["class_scales"])[0], strict=True):
    # half a step; a batch of another size sums in another order
    np.testing.assert_allclose(vector * scale, expected[class_id], atol=scale / 2 + 1e-6)


def _some_whitening(encoder, dimensions=6):
  generator = np.random.default_rng(1)
  vectors = generator.normal(size=(50, encoder.network.config.feature_channels)).astype(np.float32)
  return fit_whitening(vectors, dimensions)


def test_the_checkpoints_whitening_is_the_default(photographs, tmp_path, tiny_encoder):
  own = _some_whitening(tiny_encoder)
  summary = build_index(photographs, tmp_path / "i", tiny_encoder.replace(whitening=own))
  assert summary.whitening == "the checkpoint's own"
  name, descriptor = next(iter(rows_of(tmp_path / "i").items()))
  np.testing.assert_allclose(descriptor, describe_directly(tiny_encoder, photographs / name, own), atol=1e-5)
  with pytest.raises(InputError, match="without a whitening"):
    build_index(photographs, tmp_path / "j", tiny_encoder, whitening="bundled")


def test_a_whitening_is_taken_from_another_index(photographs, tmp_path, tiny_encoder):
  own = _some_whitening(tiny_encoder)
  build_index(photographs, tmp_path / "i", tiny_encoder.replace(whitening=own))
  build_index(photographs, tmp_path / "j", tiny_encoder, whitening=str(tmp_path / "i"))
  first, second = rows_of(tmp_path / "i"), rows_of(tmp_path / "j")
  for name in first:
    np.testing.assert_allclose(second[name], first[name], atol=1e-6)
  build_index(photographs, tmp_path / "none", tiny_encoder)
  with pytest.raises(InputError, match="no whitening to take"):
    build_index(photographs, tmp_path / "k", tiny_encoder, whitening=str(tmp_path / "none"))


def test_a_whitening_of_its_own_is_fitted_once_and_kept(copied, tmp_path, tiny_encoder):
  late = copied / "b/c/picture_11.png"
  late.rename(tmp_path / "late.png")
  summary = build_index(copied, tmp_path / "i", tiny_encoder, whitening="self", n_pca=2)
  dimensions = 22 // 3
  assert f"fitted on 22 class vectors of this index, {dimensions} dimensions" in summary.whitening
  index = open_index(tmp_path / "i")
  assert index.settings.dimensions == dimensions and not index.settings.whitening.pending
  vectors = []
  for name in sorted(rows_of(tmp_path / "i")):
    fitted = fit_image(decode_image(copied / name), tiny_encoder.settings.protocol)
    vectors.append(np.asarray(encode(tiny_encoder, *stack([fitted], fitted.canvas, 1), num_classes=2).class_vectors)[0])
  expected = fit_whitening(np.concatenate(vectors), dimensions)
  np.testing.assert_allclose(index.whitening["mean"], expected.mean, atol=1e-6)
  before = rows_of(tmp_path / "i")
  arrays = Whitening(*(jnp.asarray(index.whitening[name]) for name in ("mean", "projection")))
  for name, descriptor in before.items():
    np.testing.assert_allclose(descriptor, describe_directly(tiny_encoder, copied / name, arrays), atol=2e-4)
  (tmp_path / "late.png").rename(late)
  build_index(copied, tmp_path / "i", tiny_encoder)
  after = rows_of(tmp_path / "i")
  assert len(after) == 12
  assert all(np.array_equal(after[name], before[name]) for name in before)


def test_a_whitening_of_its_own_has_the_dimensions_that_were_asked_for(photographs, tmp_path, tiny_encoder):
  """As many as its vectors bear; the same call brings the index up to date, another number is refused."""
  for asked, dimensions, told in ((3, 3, "24 class vectors of this index, 3 dimensions"), (9, 8, "8 dimensions instead of 9")):
    for _ in range(2):
      summary = build_index(photographs, tmp_path / f"{asked}", tiny_encoder, whitening="self", n_pca=2, dimensions=asked)
      assert open_index(tmp_path / f"{asked}").settings.dimensions == dimensions
      assert told in summary.whitening or summary.indexed == 0
    with pytest.raises(InputError, match=f"its --dimensions is {asked}, not 2"):
      build_index(photographs, tmp_path / f"{asked}", tiny_encoder, dimensions=2)


def test_a_whitening_of_one_image_is_said_to_be_impossible(copied, photographs, tmp_path, tiny_encoder):
  for path in sorted(copied.rglob("*.png"))[1:]:
    path.unlink()
  summary = build_index(copied, tmp_path / "i", tiny_encoder, whitening="self")
  assert "too few" in summary.whitening
  assert open_index(tmp_path / "i").settings.whitening.pending
  assert len(rows_of(tmp_path / "i")) == 1
  only = next(copied.rglob("*.png"))
  for number in range(5):
    shutil.copy(only, copied / f"same_{number}.png")
  told = "the 6 vectors to fit a whitening on are of about 1 distinct photographs"
  assert told in build_index(copied, tmp_path / "i", tiny_encoder).whitening
  for number in range(1, 4):
    shutil.copy(next(photographs.rglob(f"picture_{number:02}.png")), copied / f"other_{number}.png")
  summary = build_index(copied, tmp_path / "i", tiny_encoder)
  told = "fitted on 9 class vectors of this index, 3 dimensions instead of 32: about 4 photographs are distinct"
  assert summary.whitening == told
  index = open_index(tmp_path / "i")
  assert index.settings.dimensions == 3 and not index.settings.whitening.pending
  assert index.settings.stored.count * 3 == to_array(index.take(np.arange(8), ["class_vectors"])["class_vectors"]).shape[1]


@pytest.mark.parametrize("stored", ["0", "3", "all", "2,5"])
def test_a_whitening_of_its_own_reaches_every_kind_of_stored_vector(photographs, tmp_path, tiny_encoder, stored, monkeypatch):
  """The rows that were rewritten are those that an index with the same whitening gets from the start."""
  monkeypatch.setattr(whitening, "ROWS", 5)
  build_index(photographs, tmp_path / "i", tiny_encoder, whitening="self", n_pca=2, store_classes=stored)
  build_index(photographs, tmp_path / "j", tiny_encoder, whitening=str(tmp_path / "i"), store_classes=stored, keep_raw=True)
  first, second = open_index(tmp_path / "i"), open_index(tmp_path / "j")
  names = schema.arrow_schema(first.settings).names
  assert names == schema.arrow_schema(second.settings).names
  one, other = (index.take(index.order(), names) for index in (first, second))
  for name in names:
    found, wanted = to_array(one[name]), to_array(other[name])
    if found.dtype.kind == "f":
      np.testing.assert_allclose(found, wanted, atol=1e-4)
    elif found.dtype == np.int8:
      assert np.abs(found.astype(int) - wanted).max() <= 1
    else:
      assert np.array_equal(found, wanted), name
