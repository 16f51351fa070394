"""The equations of METHOD 2 to 5 in plain NumPy loops and float64, written from the text and not from the code."""
