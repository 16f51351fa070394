"""The one error that means: what was handed over is wrong, and the message says how to mend it."""


class InputError(ValueError):
  """A wrong argument, file, flag or index: the message says what was expected, what was found, where, and what to do.

  The rooms raise it or a named subclass. The command line turns it into one line on standard error and exit 2.
  """
