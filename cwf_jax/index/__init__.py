"""The durable store: one Lance row an image, the settings and the whitening that the rows were made with."""
