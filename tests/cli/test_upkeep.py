"""`--mode=info`, `--mode=delete` and `--mode=export`, as their callers see them."""

import json
import shutil

import numpy as np
import pytest

from cwf_jax.index.store import open_index


@pytest.fixture
def index(tiny_index, tmp_path):
  """A copy that may be changed."""
  return shutil.copytree(tiny_index, tmp_path / "i")


def test_an_index_is_shown(cli, index, photographs):
  found = cli("--mode=info", f"--index={index}")
  assert found.code == 0 and f"{photographs}: 12\n" in found.out and "all, int8" in found.out
  values = json.loads(cli("--mode=info", f"--index={index}", "--format=json").out)
  assert values["images"] == 12 and values["folders"] == [{"root": str(photographs), "prefix": "", "images": 12, "gone": 0}]
  assert set(values["bytes"]) == {"rows", "earlier versions", "snapshots", "whitening"}


def test_rows_are_deleted_and_counted(cli, refused, index, tmp_path):
  found = cli("--mode=delete", f"--index={index}", "--ids=a/picture_00.png, b/*")
  assert found.out == f"7 deleted; 5 in {index}\n" and "deleted a/picture_00.png\n" in found.err
  (tmp_path / "ids.txt").write_text("# one\na/picture_01.png\n\n")
  assert "names no id" in refused("--mode=delete", f"--index={index}", "--ids=,")
  assert cli("--mode=delete", f"--index={index}", f"--ids={tmp_path}/ids.txt").out == f"1 deleted; 4 in {index}\n"
  assert cli("--mode=delete", f"--index={index}", "--missing").out == f"0 deleted; 4 in {index}\n"
  assert "needs --ids=LIST or --missing" in refused("--mode=delete", f"--index={index}")
  assert "cannot be read: No such file" in refused("--mode=delete", f"--index={index}", f"--ids={tmp_path}/no.txt")


def test_descriptors_are_exported(cli, refused, index, tmp_path):
  found = cli("--mode=export", f"--index={index}", f"--output={tmp_path}/x.npz")
  assert (found.code, found.out) == (0, f"12 descriptors of 32 dimensions in {tmp_path}/x.npz\n")
  with np.load(tmp_path / "x.npz") as arrays:
    assert np.array_equal(arrays["descriptors"], open_index(index).snapshot.descriptors)
  assert "--mode=export needs --output=PATH" in refused("--mode=export", f"--index={index}")
