"""Systems: from maps to vectors and descriptors."""
