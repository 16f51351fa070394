"""Forward passes over many images, and what is stored of them."""
