"""Fetching by name from a server of this test's own, and from files: which source is taken, and what is verified."""

import dataclasses
import hashlib
import json
import re
import threading

import pytest

from cwf_jax.conversion import download as downloads
from cwf_jax.conversion import fetch as module
from cwf_jax.conversion.convert import Converted
from cwf_jax.conversion.download import FetchError
from cwf_jax.conversion.fetch import RECORDS, fetch
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.manifest import Entry, Source
from cwf_jax.errors import InputError
from cwf_jax.load import load_weights
from tests.conversion.foreign import write_mobilenet_v2


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """A file of weights."""
  return write_mobilenet_v2(tmp_path_factory.mktemp("published") / "published.weights.h5")


@pytest.fixture
def published(server):
  """The server's file as the manifest knows it."""
  return Source(server.address, "keras3", "MIT")


@pytest.fixture
def home(tmp_path, monkeypatch):
  monkeypatch.setenv("CWF_JAX_HOME", str(tmp_path / "home"))
  monkeypatch.setattr(downloads, "PAUSE", 0.0)
  return tmp_path / "home"


@pytest.fixture
def quick(monkeypatch):
  """In place of a conversion: any file can be converted but a page of HTML; no checkpoint is made."""

  def convert(path, network_name, folder, layout, origin):
    if path.read_bytes().startswith(b"<html>"):
      raise ConversionError(f"{path} is a page of HTML")
    return Converted(str(folder), network_name, layout, hashlib.sha256(path.read_bytes()).hexdigest(), ())

  monkeypatch.setattr(module, "convert", convert)


def call(*sources, **options):
  return fetch("mine", manifest={"mine": Entry("mine", "mobilenet_v2", "Someone, 2017", sources)}, **options)


def refuse(*sources, error=FetchError, **options):
  with pytest.raises(error) as caught:
    call(*sources, **options)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def sha256_of(content):
  return hashlib.sha256(content).hexdigest()


def test_weights_are_fetched_verified_and_found_by_name(home, server, published, weights):
  server.content = weights.read_bytes()
  sha256 = sha256_of(server.content)
  source = dataclasses.replace(published, address=server.address + "?token=secret", sha256=sha256, bytes=len(server.content))
  calls = []
  converted = call(source, progress=lambda done, total: calls.append((done, total)))
  assert (converted.folder, converted.source_sha256) == (str(home / "mine"), sha256)
  assert calls[-1] == (len(server.content), len(server.content))
  assert sorted(path.name for path in home.iterdir()) == ["downloads", "mine"] and list((home / "downloads").iterdir()) == []
  recorded = {
    "source": "file.h5", "source_sha256": sha256, "address": server.address, "layout": "keras3", "license": "MIT",
    "citation": "Someone, 2017", "published_as": "mine",
  }  # fmt: skip
  assert recorded.items() <= load_weights("mine").metadata.items()

  gone = Source("http://127.0.0.1:1/gone")
  again = dataclasses.replace(converted, notes=("already fetched",))
  assert call(gone) == again == call(gone, sha256=sha256.upper())
  assert "is there already and was made from another file" in refuse(gone, error=ConversionError, sha256="0" * 64)


def test_a_source_of_weights_that_are_fetched_already_must_be_theirs(home, server, published, weights, tmp_path):
  call(source=str(weights))
  other = write_mobilenet_v2(tmp_path / "other.weights.h5", {"layers/dense/vars/1": 0.25})
  assert call(source=weights.as_uri()).notes == ("already fetched",)
  assert f"not {sha256_of(other.read_bytes())}): remove it" in refuse(error=ConversionError, source=str(other))
  address = server.address + "?token=secret"
  text = refuse(error=ConversionError, source=address)
  assert "made from another file (its address is not known, not http" in text and "secret" not in text
  assert call(source=address, sha256=sha256_of(weights.read_bytes())).notes == ("already fetched",)


@pytest.mark.parametrize("folder", ["file/home", "file"])
def test_a_home_that_cannot_be_written_is_named(tmp_path, monkeypatch, published, folder):
  (tmp_path / "file").touch()
  monkeypatch.setenv("CWF_JAX_HOME", str(tmp_path / folder))
  assert refuse(published).startswith(f"{tmp_path / folder} cannot be written: Not a directory; it is $CWF_JAX_HOME")


def test_a_sha256_that_is_not_known_is_recorded_and_must_not_change(home, server, published, quick):
  first = sha256_of(server.content)
  (note,) = call(published).notes
  assert first in note and str(home / RECORDS) in note and server.address in note
  records = json.loads((home / RECORDS).read_text())
  assert records[server.address].items() >= {"sha256": first, "bytes": len(server.content)}.items()
  assert re.fullmatch(r"\d{4}-\d\d-\d\d", records[server.address]["date"])
  assert call(published).notes == ()

  server.content, server.headers = b"changed", {"ETag": '"2"'}
  second = sha256_of(server.content)
  text = refuse(published)
  assert first in text and f"--sha256={second}" in text and f"or remove the address from {RECORDS}" in text
  assert call(published, sha256=second).notes == ()
  assert call(published).notes == ()
  server.content, server.headers = bytes(range(256)) * 20, {"ETag": '"3"'}
  assert second in refuse(published)
  (home / RECORDS).write_text("{}")
  assert first in call(published).notes[0]

  (home / RECORDS).write_text("{")
  assert "is damaged; remove it, and call again" in refuse(published, error=InputError)


@pytest.mark.parametrize("kind", ["sha256", "first digits", "md5", "asked for"])
def test_a_hash_that_is_known_is_verified(home, server, published, quick, kind):
  sha256, md5 = sha256_of(server.content), hashlib.md5(server.content).hexdigest()
  known = {"first digits": sha256[:8], "md5": md5}.get(kind, sha256)

  def expect(value):
    field = "md5" if kind == "md5" else "sha256"
    return (published,) if kind == "asked for" else (dataclasses.replace(published, **{field: value}),)

  def options(value):
    return {"sha256": value} if kind == "asked for" else {}

  assert call(*expect(known), **options(known)).notes == ()
  text = refuse(*expect(known[::-1]), **options(known[::-1]))
  assert known[::-1] in text and (md5 if kind == "md5" else sha256) in text
  assert not list(home.glob("downloads/mine/*.h5"))
  assert (home / RECORDS).exists() == (kind != "sha256")  # a whole sha256 needs no record


def test_the_next_source_is_tried(home, server, published, quick):
  absent, page, wrong = (
    dataclasses.replace(published, address=server.address.replace("file.h5", name), **options)
    for name, options in (("absent.h5", {}), ("page.h5", {}), ("file.h5", {"bytes": 7}))
  )
  converted = call(absent, page, wrong, published)
  assert converted.source_sha256 == sha256_of(server.content)
  first, second, third, recorded = converted.notes
  assert first == f"{absent.address} cannot be fetched: the server says 404 Not Found"
  assert second == f"{page.address} is a page of HTML"
  assert "has 5120 bytes, expected 7" in third and "is recorded" in recorded
  assert list(json.loads((home / RECORDS).read_text())) == [published.address]

  text = refuse(absent, page)
  assert text.startswith(f"mine cannot be fetched: (1) {first}; (2) {second}; ") and text.endswith("with --source=URL_OR_FILE")


@pytest.mark.parametrize("form", ["path", "file", "localhost", "http"])
def test_another_source_is_taken(home, server, quick, weights, form):
  server.content = weights.read_bytes()
  sources = {"path": str(weights), "file": weights.as_uri(), "localhost": f"file://localhost{weights}", "http": server.address}
  converted = call(Source("http://127.0.0.1:1/gone"), source=sources[form])
  assert (converted.source_sha256, converted.layout) == (sha256_of(server.content), "auto")
  assert [note for note in converted.notes if "is recorded" not in note] == []
  assert (home / RECORDS).exists() == (form == "http") and weights.exists()


def test_another_source_that_is_wrong_is_refused_and_stays(home, tmp_path, server):
  assert "there is no file" in refuse(error=ConversionError, source=str(tmp_path / "absent.h5"))
  assert "an address of http, https or file" in refuse(error=ConversionError, source="ftp://a/b")
  assert "404 Not Found" in refuse(source=server.address.replace("file.h5", "absent.h5"))
  odd = tmp_path / "odd.h5"
  odd.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
  assert refuse(error=ConversionError, source=str(odd)).startswith(f"{odd} cannot be read, it is damaged")
  assert "the sha256 of" in refuse(source=str(odd), sha256="0" * 64)
  assert odd.exists()
  server.content = odd.read_bytes()
  assert refuse(error=ConversionError, source=server.address).startswith(f"{server.address} cannot be read, it is damaged")
  assert not list(home.glob("downloads/mine/*.h5")) and not (home / "mine").exists() and not (home / RECORDS).exists()


def test_a_wrong_call_is_refused(home, server, published):
  with pytest.raises(ConversionError, match="no weights to fetch are named 'yours'; there are: mine"):
    fetch("yours", manifest={"mine": Entry("mine", "mobilenet_v2", "", ())})
  with pytest.raises(ConversionError, match="no weights to fetch are named 'yours'; there are: vgg16_cam, "):
    fetch("yours")
  assert "a sha256 is 64 digits" in refuse(published, error=ConversionError, sha256="abc")
  assert server.requests == []


def test_a_conversion_that_was_interrupted_needs_no_second_download(home, server, published, monkeypatch):
  def interrupt(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(module, "convert", interrupt)
    with pytest.raises(KeyboardInterrupt):
      call(published)
  with pytest.raises(FetchError, match="is of an unknown kind"):  # it is converted now, and is no file of weights
    call(published)
  assert len(server.requests) == 1


def test_two_at_once(home, server, published, quick):
  server.pause, started, results = threading.Event(), threading.Event(), []
  first = threading.Thread(target=lambda: results.append(call(published, progress=lambda done, total: started.set())))
  first.start()
  assert started.wait(30)  # and the lock is the first one's until the server goes on
  assert "is being fetched by another process" in refuse(published)
  server.pause.set()
  first.join()
  assert results[0].source_sha256 == sha256_of(server.content) and len(server.requests) == 1


@pytest.mark.parametrize(
  ("address", "name"),
  [
    ("http://a/b/c.h5?x=1/2", "c.h5"),
    ("http://a/%2e%2e%2f%2e%2e", "weights"),
    ("file:///a/b%20c.h5", "b_c.h5"),
    ("../a/.hidden", "hidden"),
    ("http://a/", "weights"),
    ("http://a", "weights"),
    ("x" * 300 + ".h5", "x" * 97 + ".h5"),
    ("https://drive.google.com/file/d/0Ab-c_d/view", "0Ab-c_d"),
  ],
)
def test_a_download_has_a_harmless_name(address, name):
  assert module._file_name(Source(address)) == name
