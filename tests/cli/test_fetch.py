"""`--mode=fetch`: weights by name from a file's address, by the mode and by the script, and what it says when it fails."""

import hashlib
import subprocess
import sys

import pytest

from cwf_jax.conversion import fetch
from cwf_jax.load import load_weights
from tests.cli.conftest import ROOT
from tests.conversion.foreign import write_mobilenet_v2


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  return write_mobilenet_v2(tmp_path_factory.mktemp("published") / "published.weights.h5")


@pytest.fixture(scope="module")
def sha256(source):
  return hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.fixture
def home(tmp_path, monkeypatch):
  monkeypatch.setenv("CWF_JAX_HOME", str(tmp_path / "home"))
  return tmp_path / "home"


def test_weights_are_fetched_and_found_by_name(cli, source, home):
  arguments = ("--mode=fetch", "--weights=mobilenet_v2", f"--source={source.as_uri()}")
  found = cli(*arguments)
  assert found.code == 0 and "note: its first class for the photograph" in found.err
  assert found.out.startswith(f"{home / 'mobilenet_v2'}: mobilenet_v2, ") and found.out.endswith(" MB, read as keras3\n")
  assert load_weights("mobilenet_v2").metadata["source"] == "published.weights.h5"
  again = cli(*arguments)
  assert again == (0, found.out, "note: already fetched\n")


def test_the_script_is_the_mode(source, tmp_path, environment):
  command = [sys.executable, str(ROOT / "weights" / "fetch.py"), "--weights=mobilenet_v2", f"--source={source}"]
  settings = environment | {"CWF_JAX_HOME": str(tmp_path / "home")}
  done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / "home" / "mobilenet_v2" / "checkpoint.json").is_file()


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], "--mode=fetch needs --weights=NAME, one of vgg16_cam, vgg16, vgg19, "),
    (["--weights=vgg"], "no weights to fetch are named 'vgg'; there are: vgg16_cam, vgg16, "),
    (["--weights=mobilenet_v2", "--sha256=abc"], "a sha256 is 64 digits of 0-9 and a-f; found 'abc'"),
    (["--weights=mobilenet_v2", "--source=/absent.h5"], "there is no file /absent.h5"),
    (["--weights=mobilenet_v2", "--source=ftp://a/b"], "found ftp://a/b"),
  ],
)
def test_a_wrong_call_is_one_line(refused, home, arguments, said):
  assert said in refused("--mode=fetch", *arguments)


def test_another_sha256_is_a_failure(refused, source, sha256, home):
  arguments = ("--mode=fetch", "--weights=mobilenet_v2", f"--source={source}", f"--sha256={'0' * 64}")
  said = refused(*arguments, code=1)
  assert sha256 in said and "0" * 64 in said
  assert not (home / "mobilenet_v2").exists()


def test_an_interrupt_says_that_the_download_resumes(refused, home, monkeypatch):
  def interrupt(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(fetch, "download", interrupt)
  said = refused("--mode=fetch", "--weights=mobilenet_v2", code=130)
  assert said.endswith("interrupted; what was downloaded stays; the same command resumes")
