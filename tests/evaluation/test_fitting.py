"""Whitenings are told apart by all that they are fitted on, and damaged ones are fitted anew."""

import dataclasses

import numpy as np
import pytest

from cwf_jax.evaluation import fitting
from cwf_jax.evaluation.fitting import Fits
from cwf_jax.extraction.seeing import SeenImages, own_classes
from cwf_jax.keys import make_key
from cwf_jax.systems.system import SYSTEMS
from tests.evaluation.made_up import PAPER, changed, row_of


@pytest.fixture
def fit(others, tiny_encoder, tmp_path, made_up):
  """Fits a system's whitening, under some settings, and tells the files that are kept from then on."""

  def make(name="ofa", settings=PAPER, pool=others, encoder=tiny_encoder):
    seen = SeenImages(pool, encoder, settings, tmp_path / "vectors")
    seen.compute([name], (own_classes(encoder, settings),))
    found = Fits(seen, encoder, settings, tmp_path).fit(name)
    return found, {path.name for path in tmp_path.glob("fit-*.npz")}

  return make


def test_each_part_of_what_it_depends_on_makes_another(fit, others, tiny_encoder, monkeypatch):
  first, files = fit()
  assert first.vectors == 60 and first.whitening.projection.shape == (6, 6) and len(files) == 1
  assert fit()[1] == files and fit("fixed")[1] == files  # all that sum class vectors have one
  small = dataclasses.replace(SYSTEMS["ofa"], dimensions=4)
  monkeypatch.setitem(SYSTEMS, "small", small)
  smaller, more = fit("small")
  assert smaller.whitening.projection.shape == (6, 4) and len(more) == 2
  other = dataclasses.replace(tiny_encoder.settings, weights_sha256="0" * 64)
  cases = (
    {"settings": changed(eigenvalue_floor=0.5)},
    {"settings": changed(n_pca=1)},
    {"settings": changed(size_rule="fixed_frame")},
    {"settings": changed(empty_maps="divided")},
    {"pool": dataclasses.replace(others, ids=others.ids[1:])},
    {"encoder": dataclasses.replace(tiny_encoder, settings=other)},
    {"name": "mac"},
    {"name": "rmac"},
  )
  for count, case in enumerate(cases, 3):
    assert len(fit(**case)[1]) == count, case
  monkeypatch.setattr(fitting, "hash_sources", lambda *_: "another")
  assert len(fit()[1]) == len(cases) + 3


def test_the_setting_decides_the_dimensions_and_a_cap_is_explained(fit, others, monkeypatch):
  monkeypatch.setitem(SYSTEMS, "small", dataclasses.replace(SYSTEMS["ofa"], dimensions=4))
  few = dataclasses.replace(others, ids=others.ids[:5])  # 10 vectors
  for name, asked, pool, dimensions, capped_by in (
    ("small", 0, others, 4, ""),
    ("small", 5, others, 5, ""),
    ("ofa", 2, others, 2, ""),
    ("ofa", 0, others, 6, "6 channels"),
    ("ofa", 7, others, 6, "6 channels"),
    ("ofa", 5, few, 3, "10 vectors (3 for each)"),
  ):
    found = fit(name, changed(dimensions=asked), pool)[0]
    assert (found.whitening.projection.shape[1], found.capped_by) == (dimensions, capped_by), (name, asked)


def test_systems_of_other_dimensions_side_by_side(open_, made_up, monkeypatch):
  monkeypatch.setitem(SYSTEMS, "small", dataclasses.replace(SYSTEMS["ofa"], dimensions=4))
  alone = row_of(open_(folder="alone"), "small")
  rows = list(open_().make_rows(["ofa", "small"]))
  assert [row.dimensions for row in rows] == [6, 4] and rows[1].values == alone.values


def test_damaged_ones_are_fitted_anew(fit, tmp_path):
  first, (file,) = fit()
  content = bytearray((tmp_path / file).read_bytes())
  generator = np.random.default_rng(0)
  for place in (*generator.integers(0, len(content), 200).tolist(), *range(content.rindex(b"PK\x01\x02"), len(content))):
    damaged = content.copy()
    damaged[place] ^= 1 << int(generator.integers(8))
    (tmp_path / file).write_bytes(damaged)
    found = fit()[0]
    np.testing.assert_array_equal(found.whitening.projection, first.whitening.projection)
    assert make_key(found.vectors, found.left_out) == make_key(first.vectors, first.left_out)
