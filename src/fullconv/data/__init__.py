"""Samples: which format, which splits, what they hold, how they are cut, turned and batched."""
