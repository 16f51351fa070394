"""Photographs that a test may change."""

import shutil

import pytest


@pytest.fixture
def copied(photographs, tmp_path):
  """The photographs where they may be changed."""
  return shutil.copytree(photographs, tmp_path / "copied")
