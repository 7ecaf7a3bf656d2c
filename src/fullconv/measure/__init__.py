"""Measure: counts first, every score from the counts. Knows no torch: a network comes in as a function."""
