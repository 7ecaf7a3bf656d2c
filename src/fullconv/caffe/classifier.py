"""Photos to classes, by pycaffe's `caffe.Classifier`. Road: caffe, on top of the face."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import UsageError
from fullconv.caffe import io
from fullconv.caffe.face import TEST, Floats, Net, PathLike


class Classifier(Net):
    """A net that classifies photos.

    Args:
        model_file: the prototxt.
        pretrained_file: .caffemodel or HDF5.
        image_dims: height and width that photos are brought to before they are cropped; None takes the input's.
        mean: (C,) or (C, H, W), channels as the net takes them.
        input_scale: factor after the mean is taken off.
        raw_scale: factor before.
        channel_swap: (2, 1, 0) brings RGB to BGR.
    Raises: CaffeError, WeightsError; UsageError if photos would be smaller than the input.
    """

    def __init__(
        self,
        model_file: PathLike,
        pretrained_file: PathLike,
        image_dims: Sequence[int] | None = None,
        mean: NDArray[Any] | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, pretrained_file, TEST)
        name = self.inputs[0]
        shape = self.blobs[name].shape
        self.transformer = io.Transformer({name: shape})
        self.transformer.set_transpose(name, (2, 0, 1))
        if mean is not None:
            self.transformer.set_mean(name, mean)
        if input_scale is not None:
            self.transformer.set_input_scale(name, input_scale)
        if raw_scale is not None:
            self.transformer.set_raw_scale(name, raw_scale)
        if channel_swap is not None:
            self.transformer.set_channel_swap(name, channel_swap)
        self.crop_dims = np.array(shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else np.array(image_dims)
        if self.image_dims.shape != (2,) or any(self.image_dims < self.crop_dims):
            raise UsageError(
                "photos are not smaller than the crops", f"{image_dims} for {list(shape[2:])}", "image_dims=(256, 256)"
            )

    def predict(self, inputs: Iterable[NDArray[Any]], oversample: bool = True) -> Floats:
        """Scores of photos.

        Args:
            inputs: (H, W, C) photos of any size.
            oversample: True takes the mean over corners, centre and their mirror images; False the centre.
        Returns: (N, K); without `oversample` the output's own shape.
        """
        given = list(inputs)
        if not given:
            raise UsageError("there are photos to classify", "none", "net.predict([caffe.io.load_image(path)])")
        photos = [io.resize_image(photo, self.image_dims.tolist()) for photo in given]
        crops = io.oversample(photos, self.crop_dims.tolist())
        name = self.inputs[0]
        taken = crops if oversample else crops[4::10]  # the centres
        prepared: Any = np.stack([self.transformer.preprocess(name, one) for one in taken])
        found = self.forward_all(**{name: prepared})[self.outputs[0]]
        if not oversample:
            return found
        mean: Floats = found.reshape(len(photos), 10, -1).mean(1)
        return mean
