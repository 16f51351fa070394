"""METHOD.md's equations in plain NumPy loops and float64, written from the text and not from the code."""
