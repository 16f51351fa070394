"""What more than one mode says, and how names are shown."""

RANDOM_NOTE = "the weights are random, so the names of classes mean nothing here: read the scores, not the names"


def printable(text: str) -> str:
  """A name on one line of a terminal, whatever characters it holds."""
  return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
