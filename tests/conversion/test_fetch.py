"""Fetching from a server of this test's own, and from files: what is right, and everything that goes wrong."""

import dataclasses
import errno
import hashlib
import http.server
import socket
import threading
import time

import pytest

from cwf_jax.conversion import fetch as room
from cwf_jax.conversion.fetch import FetchError, fetch
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.manifest import Entry
from cwf_jax.load import load_weights
from tests.conversion.foreign import write_mobilenet_v2


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """A file of weights."""
  return write_mobilenet_v2(tmp_path_factory.mktemp("published") / "published.weights.h5")


@pytest.fixture(scope="module")
def content(weights):
  return weights.read_bytes()


@pytest.fixture(scope="module")
def sha256(content):
  return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def server(content, weights):
  """The address of a server that sends the file, or does what the path says."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      kind = self.path.partition("?")[0].rpartition("/")[2]
      if kind in ("right.h5", "short", "long", "nothing-told", "slow"):
        told = {"short": len(content) + 10, "nothing-told": None}.get(kind, len(content))
        self.send_response(200)
        if told is not None:
          self.send_header("Content-Length", str(told))
        self.end_headers()
        if kind == "slow":
          self.wfile.write(content[:1000])
          self.wfile.flush()
          time.sleep(1.5)
        else:
          self.wfile.write(content)
      elif kind.startswith("redirect"):
        self.send_response(302)
        self.send_header("Location", "right.h5" if kind == "redirect" else weights.as_uri())
        self.end_headers()
      elif kind == "drop":
        self.connection.shutdown(socket.SHUT_RDWR)
      else:
        self.send_error(404)

    def log_message(self, *_):
      pass

  running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  running.daemon_threads = True
  thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
  thread.start()
  yield f"http://127.0.0.1:{running.server_port}"
  running.shutdown()
  thread.join()
  running.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
  monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def entry(server, content, sha256):
  return Entry("mine", "mobilenet_v2", "keras3", f"{server}/right.h5", sha256, len(content), "MIT")


@pytest.fixture
def refused(tmp_path, entry):
  """Fetches with changes to the entry; it fails with an error of the kind, and nothing is left. Gives its text."""

  def run(error, changes=(), **options):
    home = tmp_path / "home"
    with pytest.raises(error) as caught:
      fetch("mine", home, manifest={"mine": dataclasses.replace(entry, **dict(changes))}, **options)
    assert not home.exists() or list(home.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)

  return run


def test_weights_are_fetched_verified_and_found_by_name(tmp_path, entry, sha256, content, monkeypatch):
  monkeypatch.setenv("CWF_JAX_HOME", str(tmp_path / "home"))
  told = []
  entry = dataclasses.replace(entry, source=entry.source + "?token=secret")
  converted = fetch("mine", progress=lambda done, total: told.append((done, total)), manifest={"mine": entry})
  assert (converted.folder, converted.source_sha256) == (str(tmp_path / "home" / "mine"), sha256)
  assert told[-1] == (len(content), len(content)) and [done for done, _ in told] == sorted(done for done, _ in told)
  assert [path.name for path in (tmp_path / "home").iterdir()] == ["mine"]
  loaded = load_weights("mine")
  noted = {"source": "right.h5", "published_as": "mine", "licence": "MIT", "address": entry.source.partition("?")[0]}
  assert noted.items() <= loaded.metadata.items()
  assert loaded.network_name == "mobilenet_v2"

  again = fetch("mine", manifest={"mine": dataclasses.replace(entry, source="http://127.0.0.1:1/gone")})
  assert again == dataclasses.replace(converted, notes=("it was there already",))
  unknown = {"mine": dataclasses.replace(entry, sha256=None)}
  assert fetch("mine", manifest=unknown) == again  # nothing to fetch, nothing to verify
  assert fetch("mine", manifest=unknown, sha256=entry.sha256) == again
  other = {"mine": dataclasses.replace(entry, sha256="0" * 64)}
  for options in ({"manifest": other}, {"manifest": unknown, "sha256": "0" * 64}):
    with pytest.raises(ConversionError, match="is there already and was made from another file"):
      fetch("mine", **options)


@pytest.mark.parametrize("form", ["path", "file", "localhost", "redirect", "nothing-told"])
def test_other_sources_are_taken(tmp_path, entry, weights, server, sha256, form, monkeypatch):
  monkeypatch.setattr(room, "convert", lambda path, *_: path.read_bytes())
  sources = {"path": str(weights), "file": weights.as_uri(), "localhost": f"file://localhost{weights}"}
  found = fetch("mine", tmp_path, source=sources.get(form, f"{server}/{form}"), manifest={"mine": entry})
  assert hashlib.sha256(found).hexdigest() == sha256


def test_an_address_is_asked_once_more_after_a_failure(tmp_path, entry, server, monkeypatch):
  monkeypatch.setattr(room, "convert", lambda path, *_: "done")
  with pytest.raises(FetchError):
    fetch("mine", tmp_path, source=f"{server}/short", manifest={"mine": dataclasses.replace(entry, bytes=None)})
  assert fetch("mine", tmp_path, manifest={"mine": entry}) == "done"


def test_weights_without_a_sha256_need_one(refused, sha256, tmp_path, entry, weights):
  text = refused(ConversionError, {"sha256": None})
  assert entry.source in text and "sha256sum FILE" in text and "--sha256=HEX" in text
  assert "a sha256 is 64 digits" in refused(ConversionError, {"sha256": None}, sha256="abc")
  unknown = dataclasses.replace(entry, sha256=None, bytes=3, layout="keras-h5", source="http://127.0.0.1:1/x")
  fetched = fetch("mine", tmp_path, source=str(weights), sha256=sha256.upper(), manifest={"mine": unknown})
  assert (fetched.source_sha256, fetched.layout) == (sha256, "keras3")  # size and layout are those of the published file


def test_a_known_sha256_is_not_overruled(refused, sha256):
  text = refused(ConversionError, sha256="1" * 64)
  assert sha256 in text and "1" * 64 in text and "--mode=convert" in text


def test_an_unknown_name_lists_the_known_ones(refused, tmp_path, entry):
  with pytest.raises(ConversionError, match="no weights to fetch are named 'yours'; there are: mine"):
    fetch("yours", tmp_path, manifest={"mine": entry})
  with pytest.raises(ConversionError, match="there are: mobilenet_v2"):
    fetch("yours", tmp_path)


def test_another_sha256_shows_both(refused, sha256):
  text = refused(FetchError, {"sha256": "2" * 64})
  assert sha256 in text and "2" * 64 in text
  text = refused(FetchError, {"sha256": None}, sha256="3" * 64)
  assert sha256 in text and "3" * 64 in text


@pytest.mark.parametrize(
  ("path", "changes", "told"),
  [
    ("absent.h5", {}, "the server says 404 Not Found; another address, or a file that you downloaded, goes in with --source="),
    ("right.h5", {"bytes": 7}, "bytes, expected 7: it is another file"),
    ("nothing-told", {"bytes": 7}, "sends more than the 7 bytes that were expected"),
    ("short", {"bytes": None}, "fetch it again"),
    ("redirect-to-file", {}, "cannot be fetched: the server says 302"),
    ("drop", {}, "cannot be reached"),
  ],
)
def test_what_a_server_does_wrong_is_told(refused, server, path, changes, told):
  text = refused(FetchError, {"source": f"{server}/{path}", **changes})
  assert told in text and f"{server}/{path}" in text


def test_a_body_cut_off_tells_how_much_came(refused, server, content, entry):
  text = refused(FetchError, {"source": f"{server}/nothing-told", "bytes": len(content) + 10})
  assert f"ended after {len(content)} of {len(content) + 10} bytes" in text


def test_a_silent_server_is_not_waited_for(refused, server, monkeypatch):
  monkeypatch.setattr(room, "TIMEOUT", 0.3)
  assert "no answer within 0 seconds" in refused(FetchError, {"source": f"{server}/slow"})


def test_no_network_is_told(refused):
  with socket.socket() as unused:
    unused.bind(("127.0.0.1", 0))
    port = unused.getsockname()[1]
  assert "cannot be reached: Connection refused" in refused(FetchError, {"source": f"http://127.0.0.1:{port}/x"})


@pytest.mark.parametrize("source", ["ftp://127.0.0.1/x", "data://x", "file://elsewhere/x", "javascript://x"])
def test_other_kinds_of_address_are_refused(refused, source):
  assert f"an address of http, https or file; found {source}" in refused(ConversionError, source=source)


@pytest.mark.parametrize("source", ["http://", "http://a b/c", "http://127.0.0.1:port/x", "https://user:x@127.0.0.1:p/"])
def test_what_is_no_address_is_told(refused, source):
  assert "cannot be reached" in refused(FetchError, {"source": source})
  assert "http://[ is no address" in refused(ConversionError, source="http://[")


def test_a_local_file_that_is_not_there_or_something_else(refused, tmp_path):
  assert "there is no file" in refused(ConversionError, source=str(tmp_path / "absent.h5"))
  (tmp_path / "page.h5").write_text("<html>")
  assert "a page of HTML" in refused(ConversionError, source=(tmp_path / "page.h5").as_uri())


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_download_leaves_nothing(refused, error):
  def stop(done, total):
    raise error

  refused(error if isinstance(error, type) else OSError, progress=stop)


def test_a_failed_conversion_leaves_nothing(refused, tmp_path):
  (tmp_path / "odd.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
  sha256 = hashlib.sha256((tmp_path / "odd.h5").read_bytes()).hexdigest()
  text = refused(ConversionError, {"sha256": None}, source=str(tmp_path / "odd.h5"), sha256=sha256)
  assert text.startswith(f"{tmp_path / 'odd.h5'} cannot be read, it is damaged")


@pytest.mark.parametrize(
  ("source", "name"),
  [
    ("http://a/b/c.h5?x=1/2", "c.h5"),
    ("http://a/%2e%2e%2f%2e%2e", "weights"),
    ("file:///a/b%20c.h5", "b_c.h5"),
    ("../a/.hidden", "hidden"),
    ("http://a/", "weights"),
    ("http://a", "weights"),
    ("x" * 300 + ".h5", "x" * 97 + ".h5"),
  ],
)
def test_a_temporary_file_has_a_harmless_name(source, name):
  assert room._file_name(source) == name
