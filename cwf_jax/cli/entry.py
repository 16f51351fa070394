"""Where a call comes in and where every error goes out: one line on standard error and an exit code.

0 done; 1 failed on the way; 2 the call was wrong; 130 interrupted.
"""

import contextlib
import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator

from absl import app, flags

from cwf_jax.cli.call import Answer, Call, FailedError, parse_call
from cwf_jax.errors import InputError, printable

FAILED = 1
"""The exit code of a call that was right and could not be carried out."""

INTERRUPTED = 130
"""The exit code after a Ctrl-C."""


def main() -> None:
  """The console script `cwf-jax`."""
  app.run(run_and_leave, flags_parser=parse)


def parse(argv: list[str]) -> Call:
  """Parses the arguments for `app.run`; a wrong call ends here with one line and exit 2, `--help` with 0."""
  _prepare_streams()
  flags.FLAGS(argv[:1])  # absl's own flags stay at their defaults
  try:
    call = parse_call(argv)
    if isinstance(call, Call):
      return call
    sys.exit(_answer(call))
  except InputError as error:
    sys.exit(_fail(error, 2))


def run_and_leave(call: Call) -> int:
  """As `run`, for a process of its own: one that was interrupted, or failed on the way, ends at once.

  XLA compiles and TensorStore writes on threads of their own, which neither stops. Python's shutdown would take the device
  and the event loop away from under them, and the process would die of it, or print what they think of it; what counts is
  committed and flushed by now.
  """
  code = run(call)
  if code in (FAILED, INTERRUPTED):
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError, ValueError):
        stream.flush()
    os._exit(code)
  return code


def run(call: Call) -> int:
  """Runs a call and returns its exit code."""
  interrupt = _Interrupt()
  with _caught(interrupt):
    try:
      return _run(call, interrupt)
    except (Exception, KeyboardInterrupt) as error:
      if interrupt.came or isinstance(error, KeyboardInterrupt):
        after = getattr(call.mode, "AFTER_INTERRUPT", "")
        return _fail(f"interrupted; {after}" if after else "interrupted", INTERRUPTED)
      raise


class _Interrupt:
  """Raises `KeyboardInterrupt`, and remembers it, since not every place that it is raised in lets it through.

  Raised inside a callback of the garbage collector, as JAX has one, it is lost; a library may turn it into an error of its
  own. While it is held, at the start, it only remembers: an extension that is being imported would print a traceback.
  """

  def __init__(self):
    self.came, self._held = False, True

  def __call__(self, *_) -> None:
    self.came = True
    if not self._held:
      raise KeyboardInterrupt

  def release(self) -> None:
    self._held = False
    self.check()

  def check(self) -> None:
    """Raises an interrupt that came before; called where there is progress."""
    if self.came:
      raise KeyboardInterrupt


@contextlib.contextmanager
def _caught(interrupt: _Interrupt) -> Iterator[None]:
  """A Ctrl-C and a polite kill both interrupt, unless the caller has this process ignore them."""
  if threading.current_thread() is not threading.main_thread():
    yield  # signals are the main thread's
    return
  before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
  before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
  hook = sys.unraisablehook
  try:
    sys.unraisablehook = lambda lost: None if lost.exc_type is KeyboardInterrupt else hook(lost)
    for number in before:
      signal.signal(number, interrupt)
    yield
  finally:
    sys.unraisablehook = hook
    for number, handler in before.items():
      signal.signal(number, handler)


def _run(call: Call, interrupt: _Interrupt) -> int:
  from cwf_jax.cli.console import open_console

  try:
    with open_console(call.values, interrupt.check) as console:
      interrupt.release()
      try:
        code = call.mode.run(call.values, console)
        sys.stdout.flush()
        return code
      except BrokenPipeError:
        return _leave_quietly()
      except Exception as error:
        console.log_error(error)
        raise
  except InputError as error:
    return _fail(error, 2)
  except (FailedError, OSError) as error:
    return _fail(_explain(error), FAILED)
  except (MemoryError, RuntimeError) as error:
    if not _is_out_of_memory(error):
      raise
    return _fail("not enough memory; a smaller --batch_size, --image_size or (for training) --schedule needs less", FAILED)


def _answer(answer: Answer) -> int:
  try:
    print(answer.text, flush=True)
    return 0
  except BrokenPipeError:
    return _leave_quietly()


def _prepare_streams() -> None:
  """A stream that the call closed takes what it is given, and no file's name is beyond what a terminal takes."""
  for name in ("stdout", "stderr"):
    stream = getattr(sys, name)
    if stream is None:
      nowhere = os.open(os.devnull, os.O_WRONLY)  # takes the closed one's number, so that no file of ours does
      setattr(sys, name, open(nowhere, "w", encoding="utf-8", closefd=False))  # noqa: SIM115  (to the end)
    elif hasattr(stream, "reconfigure"):
      stream.reconfigure(errors="backslashreplace")


def _leave_quietly() -> int:
  """The reader has gone: nothing more to say, not even at the interpreter's end."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 1


def _explain(error: Exception) -> str:
  text = str(error)
  if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in text:
    return "no space is left on the disk"
  if isinstance(error, OSError) and error.filename is not None and error.strerror:
    return f"{printable(os.fsdecode(error.filename))}: {error.strerror}"
  return re.sub(r",?\s*\S+\.rs:\d+(:\d+)?", "", text)  # where in its source the store's library noticed


def _is_out_of_memory(error: Exception) -> bool:
  return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def _fail(error: object, code: int) -> int:
  text = " ".join(str(error).split()) or type(error).__name__
  print(f"cwf_jax: {text}", file=sys.stderr, flush=True)
  return code
