"""METHOD.md's equations in plain NumPy loops and float64, to hold the product against. Written from the text, not from the code."""
