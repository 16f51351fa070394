"""An HDF5 file to write into, and a server of files that also does what servers should not."""

import dataclasses
import http.server
import socket
import threading

import h5py
import pytest


@dataclasses.dataclass
class Server:
  """A server of one file, at `address`; paths that begin otherwise are absent or redirect.

  Attributes:
    address: of the file.
    content: of the file.
    headers: that every answer has: validators.
    length: in place of the content's own; None: it is not sent.
    takes_ranges: a part of the file is sent where one is asked for.
    checks_validator: if the validator is still the file's.
    cuts: after how many bytes each answer breaks off, in order; None: not at all. Later ones do not.
    pause: an event that an answer waits for after its first 100 bytes.
    requests: the headers of each, in order.
  """

  address: str = ""
  content: bytes = bytes(range(256)) * 20
  headers: dict = dataclasses.field(default_factory=lambda: {"ETag": '"1"'})
  length: int | None = -1
  takes_ranges: bool = True
  checks_validator: bool = True
  cuts: list = dataclasses.field(default_factory=list)
  pause: threading.Event | None = None
  requests: list = dataclasses.field(default_factory=list)

  @property
  def ranges(self):
    """What each request asked for."""
    return [request["Range"] for request in self.requests]


@pytest.fixture
def made(tmp_path):
  """A new HDF5 file, open for writing."""
  with h5py.File(tmp_path / "made.h5", "w") as file:
    yield file


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setenv("no_proxy", "127.0.0.1")
  state = Server()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      state.requests.append(self.headers)
      name = self.path.partition("?")[0].rpartition("/")[2]
      if name.startswith("redirect"):
        self.send_response(302)
        self.send_header("Location", {"redirect": state.address, "redirect-to-file": "file:///etc/passwd"}.get(name, "ftp://a/b"))
        self.end_headers()
      elif name == "drop":
        self.connection.shutdown(socket.SHUT_RDWR)
      elif name == "page.h5":
        self.answer(b"<html>", None)
      elif name == "file.h5":
        self.answer(state.content, self.headers["Range"])
      else:
        self.send_error(404)

    def answer(self, content, asked):
      is_changed = self.headers["If-Range"] not in (None, *state.headers.values())
      if not state.takes_ranges or (state.checks_validator and is_changed):
        asked = None
      start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
      if start >= len(content):
        return self.send_error(416)
      self.send_response(206 if start else 200)
      for key, value in state.headers.items():
        self.send_header(key, value)
      if start:
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
      if state.length is not None:
        self.send_header("Content-Length", str(len(content) - start if state.length < 0 else state.length))
      self.end_headers()
      cut = state.cuts.pop(0) if state.cuts else None
      body = content[start : None if cut is None else start + cut]
      self.wfile.write(body[:100])
      if state.pause:
        self.wfile.flush()
        state.pause.wait(30)
      self.wfile.write(body[100:])
      self.close_connection = True

    def log_message(self, *_):
      pass

  running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  running.daemon_threads = True
  thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
  thread.start()
  state.address = f"http://127.0.0.1:{running.server_port}/file.h5"
  yield state
  running.shutdown()
  thread.join()
  running.server_close()
