"""Classifiers, tracing, surgery with proof, heads, bundles. Road: between data and train."""
