"""What a new index will hold, and what an existing one refuses."""

import dataclasses

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.index.schema import StoredClasses, WhiteningOrigin
from cwf_jax.index.store import Index
from cwf_jax.indexing.settings import check_agreement, choose_settings, parse_stored
from cwf_jax.models.class_names import ClassList
from cwf_jax.ops.whitening import Whitening

CLASSES = ClassList.numbered(10)


def test_the_defaults(tiny_encoder):
  settings, arrays = choose_settings(tiny_encoder)
  own = tiny_encoder.settings
  assert arrays is None and settings.whitening == WhiteningOrigin("none")
  assert settings.stored == StoredClasses("own", 10)  # 64, and the network has 10
  assert (settings.num_classes, settings.num_encoded, settings.keep_raw) == (4, 10, False)
  assert settings.dimensions == settings.feature_channels == tiny_encoder.network.config.feature_channels
  assert (settings.fingerprint, settings.weights_sha256, settings.is_random) == (own.fingerprint, own.weights_sha256, True)


@pytest.mark.parametrize(
  ("asked", "encoded"),
  [
    ({"store_classes": "0"}, 4),
    ({"store_classes": 2}, 4),
    ({"store_classes": "7"}, 7),
    ({"store_classes": "all"}, 10),
    ({"store_classes": "1,2"}, 4),
    ({"store_classes": 0, "whitening": "self", "n_pca": 9}, 9),
  ],
)
def test_no_more_classes_are_encoded_than_are_needed(tiny_encoder, asked, encoded):
  assert choose_settings(tiny_encoder, **asked)[0].num_encoded == encoded


def test_a_whitening_fitted_on_itself_keeps_raw_vectors(tiny_encoder):
  settings, arrays = choose_settings(tiny_encoder, whitening="self", n_pca=3)
  assert settings.keep_raw and arrays is None
  assert settings.whitening == WhiteningOrigin("self", n_pca=3, pending=True)


def test_the_checkpoints_whitening_decides_the_dimensions(tiny_encoder):
  channels = tiny_encoder.network.config.feature_channels
  own = Whitening(np.zeros(channels, np.float32), np.ones((channels, 3), np.float32))
  for whitening in (None, "bundled"):
    settings, arrays = choose_settings(tiny_encoder.replace(whitening=own), whitening=whitening)
    assert settings.dimensions == 3 and settings.whitening.source == "bundled"
    assert arrays["projection"].shape == (channels, 3)
  assert choose_settings(tiny_encoder.replace(whitening=own), whitening="none")[1] is None


def test_the_first_dimensions_of_a_whitening_are_taken(tiny_encoder, tmp_path):
  channels = tiny_encoder.network.config.feature_channels
  own = Whitening(np.zeros(channels, np.float32), np.random.default_rng(0).normal(size=(channels, 3)).astype(np.float32))
  encoder = tiny_encoder.replace(whitening=own)
  Index.create(tmp_path / "i", *choose_settings(encoder))
  for source in ("bundled", str(tmp_path / "i")):
    settings, arrays = choose_settings(encoder, whitening=source, dimensions=2)
    assert settings.dimensions == 2
    np.testing.assert_array_equal(arrays["projection"], own.projection[:, :2])
    with pytest.raises(InputError, match=f"--dimensions is 1 to 3, those of --whitening={source}; found 4"):
      choose_settings(encoder, whitening=source, dimensions=4)


@pytest.mark.parametrize(
  ("asked", "message"),
  [
    ({"n_pca": 0, "whitening": "self"}, "--n_pca is 1 to 10"),
    ({"n_pca": 11, "whitening": "self"}, "--n_pca is 1 to 10"),
    ({"n_pca": 2}, "--n_pca is for --whitening=self"),
    ({"n_pca": 2, "whitening": "none"}, "--n_pca is for --whitening=self"),
    ({"dimensions": 2}, "--dimensions needs a whitening; found --whitening=none"),
    ({"dimensions": 33, "whitening": "self"}, "--dimensions is 1 to 32, those of --whitening=self; found 33"),
    ({"dimensions": 0, "whitening": "self"}, "--dimensions is 1 to 32"),
    ({"whitening": "bundled"}, "weights tiny come without a whitening"),
    ({"whitening": "slef"}, "--whitening is bundled, self, none or another index; found slef: there is no index"),
    ({"whitening": "self", "keep_raw": False}, "leave --nokeep_raw out"),
    ({"store_classes": "-1"}, "--store_classes is 0 or more"),
    ({"store_classes": "vault"}, "no class is named 'vault'"),
    ({"store_classes": "3,10"}, "no class 10"),
    ({"store_classes": ""}, "no class was named"),
  ],
)
def test_what_cannot_be_is_refused_with_its_flag(tiny_encoder, asked, message):
  with pytest.raises(InputError, match=message) as caught:
    choose_settings(tiny_encoder, **asked)
  assert "\n" not in str(caught.value)


def test_a_whitening_of_other_weights_is_refused(tiny_encoder, tmp_path):
  settings, _ = choose_settings(tiny_encoder)
  channels = settings.feature_channels
  other = dataclasses.replace(settings, weights="others", weights_sha256="0" * 64, dimensions=2)
  Index.create(tmp_path / "i", other, {"mean": np.zeros(channels), "projection": np.ones((channels, 2))})
  with pytest.raises(InputError, match="belongs to the weights others, not to tiny"):
    choose_settings(tiny_encoder, whitening=str(tmp_path / "i"))


def test_classes_to_store():
  assert parse_stored("64", CLASSES) == StoredClasses("own", 10)
  assert parse_stored(" 3 ", CLASSES) == StoredClasses("own", 3)
  assert parse_stored("0", CLASSES) == StoredClasses("none", 0)
  assert parse_stored("all", CLASSES) == StoredClasses("all", 10)
  assert parse_stored("7, class 2,7", CLASSES) == StoredClasses("list", 2, (7, 2))
  assert parse_stored("3,", CLASSES) == StoredClasses("list", 1, (3,))


def _check(settings, **asked):
  named = dict.fromkeys(("whitening", "n_pca", "dimensions", "store_classes", "keep_raw")) | asked
  check_agreement("some.index", settings, CLASSES, **named)


def test_what_agrees_with_an_index_passes(tiny_encoder, tmp_path, monkeypatch):
  plain, _ = choose_settings(tiny_encoder, store_classes="3")
  for asked in ({}, {"whitening": "none"}, {"store_classes": "3"}, {"store_classes": 3}, {"keep_raw": False}):
    _check(plain, **asked)
  fitted, _ = choose_settings(tiny_encoder, whitening="self", n_pca=2)
  _check(fitted, whitening="self", n_pca=2, dimensions=fitted.feature_channels, keep_raw=True, store_classes=64)
  capped = dataclasses.replace(fitted, dimensions=2, whitening=WhiteningOrigin("self", n_pca=2, dimensions=5))
  _check(capped, dimensions=5)  # as it was asked for
  monkeypatch.chdir(tmp_path)
  taken = dataclasses.replace(plain, whitening=WhiteningOrigin(str(tmp_path / "other")))
  _check(taken, whitening="other")


def test_what_disagrees_is_named_on_both_sides_all_at_once(tiny_encoder):
  plain, _ = choose_settings(tiny_encoder, store_classes="3")
  with pytest.raises(InputError) as caught:
    _check(plain, whitening="self", n_pca=2, dimensions=4, store_classes="1,2", keep_raw=True)
  for told in (
    "some.index", "its whitening is none, not self", "has no --n_pca=2", "has no --dimensions=4",
    "3 an image; not: a list of 2", "does not keep raw",
  ):  # fmt: skip
    assert told in str(caught.value)
  fitted, _ = choose_settings(tiny_encoder, whitening="self", n_pca=2, dimensions=5)
  with pytest.raises(InputError, match=r"its --n_pca is 2, not 3; its --dimensions is 5, not 6; it keeps raw vectors"):
    _check(fitted, n_pca=3, dimensions=6, keep_raw=False)
  listed, _ = choose_settings(tiny_encoder, store_classes="1,2")
  with pytest.raises(InputError, match="a list of 2"):
    _check(listed, store_classes="2,3")
