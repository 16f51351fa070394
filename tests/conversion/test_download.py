"""Downloads from a server of this test's own: what is right, what breaks off, and everything that a server does wrong."""

import errno
import os
import socket
import sys
import threading
import types
from pathlib import Path

import pytest

from cwf_jax.conversion import download as module
from cwf_jax.conversion.download import RETRIES, FetchError, download, split_address
from cwf_jax.conversion.files import ConversionError

CHANGED = bytes(5000)


@pytest.fixture
def target(tmp_path):
  return tmp_path / "file.h5"


@pytest.fixture(autouse=True)
def short_pause(monkeypatch):
  monkeypatch.setattr(module, "PAUSE", 0.0)


def refuse(server, target, path="file.h5", **options):
  """The text of the error that a download raises."""
  with pytest.raises(FetchError) as caught:
    download(server.address.replace("file.h5", path), target, **options)
  assert path in str(caught.value) and "\n" not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize("path", ["file.h5", "redirect", "file.h5?token=1"])
@pytest.mark.parametrize("length", [-1, None])
def test_a_file_is_downloaded_once(server, target, path, length):
  server.length = length
  calls, address = [], server.address.replace("file.h5", path)
  download(address, target, len(server.content), lambda done, total: calls.append((done, total)))
  assert target.read_bytes() == server.content
  assert calls == sorted(calls) and calls[-1] == (len(server.content), len(server.content))
  before = len(server.requests)
  download(address, target)
  assert target.read_bytes() == server.content and len(server.requests) == before


def test_a_connection_that_breaks_off_is_made_again(server, target):
  server.cuts = [1000, 2500]
  download(server.address, target)
  assert target.read_bytes() == server.content
  assert server.ranges == [None, "bytes=1000-", "bytes=3500-"]
  assert [request["If-Range"] for request in server.requests] == [None, '"1"', '"1"']


def test_a_later_call_goes_on_after_one_that_broke_off_again_and_again(server, target):
  server.cuts = [500] * (RETRIES + 1)
  here = 500 * (RETRIES + 1)
  rest = "; what was downloaded stays; the same command resumes"
  assert refuse(server, target).endswith(f"ended after {here} of 5120 bytes{rest}")
  with pytest.raises(FetchError, match=f"cannot be reached: Connection refused{rest}"):
    download("http://127.0.0.1:1/file.h5", target)
  assert target.stat().st_size == here and len(server.requests) == RETRIES + 1
  calls = []
  download(server.address, target, progress=lambda done, total: calls.append((done, total)))
  assert target.read_bytes() == server.content
  assert server.ranges[-1] == f"bytes={here}-" and calls[0] == (here, 5120)


def test_a_connection_by_which_nothing_comes_is_not_made_again(server, target):
  server.cuts = [500, 0, 0]
  assert "ended after 500 of 5120 bytes" in refuse(server, target)
  assert len(server.requests) == 2 and target.stat().st_size == 500


def test_a_server_that_ignores_ranges_sends_it_all_again(server, target):
  server.takes_ranges, server.cuts = False, [1000]
  download(server.address, target)
  assert target.read_bytes() == server.content and server.ranges == [None, "bytes=1000-"]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}])
def test_without_a_validator_a_download_begins_again(server, target, headers):
  server.headers, server.cuts = headers, [1000, 900]
  assert "ended after 900 of 5120 bytes; call again to start over" in refuse(server, target)
  download(server.address, target)
  assert target.read_bytes() == server.content and server.ranges == [None] * 3


@pytest.mark.parametrize("checks_validator", [True, False])
def test_a_file_that_changed_between_two_calls_is_downloaded_again(server, target, checks_validator):
  server.cuts = [1000, 0]
  refuse(server, target)
  server.content, server.headers, server.checks_validator = CHANGED, {"ETag": '"2"'}, checks_validator
  download(server.address, target)
  assert target.read_bytes() == CHANGED
  assert server.ranges[2:] == (["bytes=1000-"] if checks_validator else ["bytes=1000-", None])


def test_the_date_of_a_file_is_its_validator_where_it_has_no_tag(server, target):
  server.headers, server.cuts = {"ETag": 'W/"1"', "Last-Modified": "Mon, 02 Jan 2017 03:04:05 GMT"}, [1000]
  download(server.address, target)
  assert target.read_bytes() == server.content and server.ranges == [None, "bytes=1000-"]


def test_a_part_that_is_longer_than_the_file_is_removed(server, target):
  server.cuts = [4000, 0]
  refuse(server, target)
  server.content = server.content[:3000]
  download(server.address, target)
  assert target.read_bytes() == server.content and server.ranges[2:] == ["bytes=4000-", None]


def test_a_damaged_state_begins_again(server, target):
  server.cuts = [1000, 0]
  refuse(server, target)
  target.with_name("file.h5.json").write_text("[]")
  download(server.address, target)
  assert target.read_bytes() == server.content and server.ranges[-1] is None


def test_a_length_that_lies_is_reported(server, target):
  server.length = len(server.content) + 10
  assert "ended after 5120 of 5130 bytes" in refuse(server, target)
  target.unlink()
  server.length = 5000
  assert "has 5000 bytes, expected 5120: it is another file" in refuse(server, target, size=5120)
  assert not target.exists()
  server.length = None
  assert "sends more than the 7 bytes that were expected" in refuse(server, target, size=7)
  assert not target.exists()


@pytest.mark.parametrize(
  ("path", "text"),
  [
    ("absent.h5", "cannot be fetched: the server says 404 Not Found"),
    ("redirect-to-file", "cannot be fetched: the server says 302"),
    ("redirect-to-ftp", "cannot be reached: it redirects to an FTP server"),
    ("drop", "cannot be reached: "),
  ],
)
def test_what_a_server_does_wrong_is_reported(server, target, path, text):
  assert text in refuse(server, target, path)
  assert not target.exists()


def test_a_silent_server_is_not_waited_for(server, target, monkeypatch):
  monkeypatch.setattr(module, "TIMEOUT", 0.2)
  server.pause, server.cuts = threading.Event(), [100, 0]
  assert "was interrupted after 100 bytes: no answer within 0 seconds; what was downloaded stays" in refuse(server, target)
  server.pause.set()


def test_no_network_is_reported(target, monkeypatch):
  monkeypatch.setenv("no_proxy", "127.0.0.1")
  with socket.socket() as unused:
    unused.bind(("127.0.0.1", 0))
    port = unused.getsockname()[1]
  with pytest.raises(FetchError, match="cannot be reached: Connection refused"):
    download(f"http://127.0.0.1:{port}/x", target)


@pytest.mark.parametrize("address", ["http://", "http://a b/c", "http://127.0.0.1:port/x", "https://user:x@127.0.0.1:p/"])
def test_an_address_that_is_none_is_reported(address, target):
  with pytest.raises(FetchError, match="cannot be reached"):
    download(address, target)


@pytest.mark.parametrize("source", ["ftp://127.0.0.1/x", "data://x", "file://elsewhere/x", "javascript://x"])
def test_other_kinds_of_address_are_refused(source):
  with pytest.raises(ConversionError, match=f"an address of http, https or file; found {source}"):
    split_address(source)


def test_what_is_no_address(tmp_path):
  with pytest.raises(ConversionError, match=r"http://\[ is no address"):
    split_address("http://[")
  assert split_address(str(tmp_path)) is None and split_address("C:/a") is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_what_arrived_before_an_interruption_is_kept(server, target, error):
  def stop(done, total):
    if done >= 1000:
      raise error

  server.cuts = [1000]
  with pytest.raises(error if isinstance(error, type) else OSError) as caught:
    download(server.address, target, progress=stop)
  assert not isinstance(caught.value, FetchError)
  download(server.address, target)
  assert target.read_bytes() == server.content and server.ranges == [None, "bytes=1000-"]


def test_a_full_disk_is_an_error_of_the_system(server, target):
  if not Path("/dev/full").exists():
    pytest.skip("no /dev/full on this system")
  target.symlink_to("/dev/full")
  with pytest.raises(OSError, match="No space left") as caught:
    download(server.address, target)
  assert caught.value.errno == errno.ENOSPC


DRIVE = "https://drive.google.com/file/d/ID/view"


def test_google_drive_is_asked_by_gdown(target, monkeypatch):
  def fake(url, output, *, quiet, use_cookies, resume, retries, timeout, progress):
    assert (url, quiet, use_cookies, resume) == (DRIVE, True, False, True)
    Path(output).write_bytes(b"weights")
    progress(7, None)

  calls = []
  monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=fake))
  download(DRIVE, target, progress=lambda done, total: calls.append((done, total)))
  assert target.read_bytes() == b"weights" and calls == [(7, 7)]


def test_google_drive_without_gdown_or_with_a_failure_says_what_to_do(target, monkeypatch):
  monkeypatch.setitem(sys.modules, "gdown", None)
  with pytest.raises(FetchError, match=r"pip install 'cwf_jax\[gdown\]', or download it in a browser and name"):
    download(DRIVE, target)
  errors = [ValueError("Cannot retrieve the public\n link"), OSError("reset"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]

  def fail(*_, **__):
    raise errors.pop(0)

  monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=fail))
  with pytest.raises(FetchError, match=r"from Google Drive: Cannot retrieve the public link; remove .* to begin again, or "):
    download(DRIVE, target)
  with pytest.raises(FetchError, match="from Google Drive: reset"):
    download(DRIVE, target)
  with pytest.raises(OSError, match="No space left"):
    download(DRIVE, target)
