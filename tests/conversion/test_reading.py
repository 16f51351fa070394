"""A file is read in a process of its own, and whatever its bytes are, there is an answer or a `ConversionError`."""

import os
import sys

import h5py
import numpy as np
import pytest

from cwf_jax.conversion import reading
from cwf_jax.conversion.files import ConversionError
from tests.conversion.foreign import KERNELS, WRITERS, draw_weights, small_tables

TABLES = small_tables()

posix = pytest.mark.skipif(os.name != "posix", reason="the interpreter is replaced by a shell's script")


@pytest.fixture(params=WRITERS)
def whole(request, tmp_path):
  return WRITERS[request.param](tmp_path / "whole.h5", draw_weights(), compression="gzip")


def _read(path, patience=reading.PATIENCE):
  return reading.read_apart(path, TABLES, "auto", KERNELS, patience)


def test_apart_is_the_same_as_here(whole):
  with h5py.File(whole, "a") as file:  # so that there are problems to carry
    file["hidden"] = np.ones(3)
  apart, here = _read(whole), reading.read(whole, TABLES, "auto", KERNELS)
  assert (apart.layout, apart.matched.problems, apart.matched.notes) == (here.layout, here.matched.problems, here.matched.notes)
  assert here.matched.problems.list_all() == ["extra: hidden (3,)"] and set(apart.matched.arrays) == set(here.matched.arrays)
  for key, array in here.matched.arrays.items():
    np.testing.assert_array_equal(apart.matched.arrays[key], array)


def test_its_error_is_ours(tmp_path):
  with h5py.File(tmp_path / "x.h5", "w"):
    pass
  with pytest.raises(ConversionError, match="holds no network of Keras"):
    _read(tmp_path / "x.h5")


def test_it_works_from_any_folder(whole, tmp_path, monkeypatch):
  monkeypatch.chdir(whole.parent)
  (tmp_path / "h5py.py").write_text("raise SystemExit('the folder that one is in is no place for modules')")
  assert not _read("whole.h5").matched.problems


def test_what_does_not_end_is_ended(whole):
  with pytest.raises(ConversionError, match="reading HDF5 did not finish within 0 seconds"):
    _read(whole, patience=0.0)


@posix
@pytest.mark.parametrize(
  ("script", "error", "message"),
  [
    ("kill -SEGV $$", ConversionError, "is damaged: reading HDF5 was ended by SIGSEGV"),
    ("cat > /dev/null; echo odd >&2; exit 1", RuntimeError, "failed: odd"),
  ],
)
def test_a_process_that_dies_is_reported(whole, tmp_path, monkeypatch, script, error, message):
  program = tmp_path / "python"
  program.write_text(f"#!/bin/sh\n{script}\n")
  program.chmod(0o755)
  monkeypatch.setattr(sys, "executable", str(program))
  with pytest.raises(error, match=message):
    _read(whole)


def test_a_file_cut_off_anywhere_is_refused(whole, tmp_path):
  content = whole.read_bytes()
  path = tmp_path / "cut.h5"
  for size in [*range(0, 200, 7), *range(200, len(content), len(content) // 100), len(content) - 1]:
    path.write_bytes(content[:size])
    with pytest.raises(ConversionError):  # noticed before HDF5 looks at anything else, so it is safe here
      reading.read(path, TABLES, "auto", KERNELS)
