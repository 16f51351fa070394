"""Collections of photographs with known answers."""
