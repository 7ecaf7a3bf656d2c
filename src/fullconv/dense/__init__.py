"""Dense prediction: the ways to score every place of a photo."""
