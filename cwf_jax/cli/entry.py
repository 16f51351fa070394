"""Where a call comes in and where every error goes out: one line on standard error and an exit code.

0 done; 1 failed on the way; 2 the call was wrong; 130 interrupted.
"""

import os
import signal
import sys

from absl import app, flags

from cwf_jax.cli.call import Answer, Call, parse_call
from cwf_jax.errors import InputError


def main() -> None:
  """The console script `cwf-jax`."""
  app.run(run, flags_parser=parse)


def parse(argv: list[str]) -> Call:
  """Parses the arguments for `app.run`; a wrong call ends here with one line and exit 2, `--help` with 0."""
  flags.FLAGS(argv[:1])  # absl's own flags stay at their defaults
  try:
    call = parse_call(argv)
  except InputError as error:
    sys.exit(_fail(error, 2))
  if isinstance(call, Answer):
    print(call.text)
    sys.exit(0)
  return call


def run(call: Call) -> int:
  """Runs a call and returns its exit code."""
  from cwf_jax.cli.console import open_console

  signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill leaves what a Ctrl-C leaves
  try:
    with open_console(call.values) as console:
      try:
        code = call.mode.run(call.values, console)
        sys.stdout.flush()
        return code
      except InputError as error:
        console.log_error(error)
        return _fail(error, 2)
      except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: nothing more to say
        return 1
      except OSError as error:
        console.log_error(error)
        return _fail(error, 1)
      except KeyboardInterrupt:
        return _fail("interrupted", 130)
  except InputError as error:  # of the console itself
    return _fail(error, 2)


def _fail(error: object, code: int) -> int:
  text = " ".join(str(error).split()) or type(error).__name__
  print(f"cwf_jax: {text}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)
  return code
