"""Prediction: photos in, label maps and pictures out."""
