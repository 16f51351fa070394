"""An evaluation's result for people: tables, comparisons, published numbers."""
