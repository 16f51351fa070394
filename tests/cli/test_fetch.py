"""`--mode=fetch`: weights by name from a file's address, by the mode and by the script, and every call that is refused."""

import hashlib
import subprocess
import sys

import pytest

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


def test_weights_are_fetched_and_found_by_name(cli, source, sha256, home):
  arguments = ("--mode=fetch", "--weights=mobilenet_v2", f"--source={source.as_uri()}", f"--sha256={sha256}")
  found = cli(*arguments)
  assert found.code == 0 and "note: its first class for the photograph" in found.err
  assert found.out.startswith(f"{home / 'mobilenet_v2'}: mobilenet_v2, ") and found.out.endswith(" MB, read as keras3\n")
  assert load_weights("mobilenet_v2").metadata["source"] == "published.weights.h5"
  again = cli(*arguments)
  assert again == (0, found.out, "note: it was there already\n")


def test_the_script_is_the_mode(source, sha256, tmp_path, environment):
  command = [sys.executable, str(ROOT / "weights" / "fetch.py"), "--weights=mobilenet_v2", f"--source={source}"]
  settings = environment | {"CWF_JAX_HOME": str(tmp_path / "home")}
  done = subprocess.run(
    [*command, f"--sha256={sha256}"], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr
  assert (tmp_path / "home" / "mobilenet_v2" / "checkpoint.json").is_file()


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], "--mode=fetch needs --weights=NAME, one of mobilenet_v2"),
    (["--weights=vgg"], "no weights to fetch are named 'vgg'; there are: mobilenet_v2"),
    (["--weights=mobilenet_v2"], "no sha256 of mobilenet_v2 is known to this version"),
    (["--weights=mobilenet_v2", "--sha256=abc"], "a sha256 is 64 digits of 0-9 and a-f; found 'abc'"),
    (["--weights=mobilenet_v2", f"--sha256={'0' * 64}", "--source=/absent.h5"], "there is no file /absent.h5"),
    (["--weights=mobilenet_v2", f"--sha256={'0' * 64}", "--source=ftp://a/b"], "found ftp://a/b"),
  ],
)
def test_a_wrong_call_is_one_line(refused, home, arguments, said):
  assert said in refused("--mode=fetch", *arguments)


def test_another_sha256_is_a_failure(refused, source, sha256, home):
  arguments = ("--mode=fetch", "--weights=mobilenet_v2", f"--source={source}", f"--sha256={'0' * 64}")
  said = refused(*arguments, code=1)
  assert sha256 in said and "0" * 64 in said
  assert list(home.iterdir()) in ([], [home / "compiled"])
