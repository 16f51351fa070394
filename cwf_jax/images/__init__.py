"""Image files in, upright RGB pixels inside declared canvases out: `decoding` reads files, `canvases` makes batches."""
