"""Segment one photo. Road: predict, first. In: a network and a photo. Out: `Prediction`.

The work itself is in nets/prediction.py, below bundles, which predict by themselves.
"""

from fullconv.nets.prediction import Photo, Prediction, predict_photo

__all__ = ["Photo", "Prediction", "predict_photo"]
