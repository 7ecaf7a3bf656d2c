"""Every layer type by its name in a prototxt. Road: caffe, between the layers and the graph."""

from __future__ import annotations

from collections.abc import Mapping

from fullconv.caffe import fcn_data, losses, normalising, pointwise, recurrent, shaping, sources, spatial
from fullconv.caffe.layer import Layer

_PLAIN: tuple[type[Layer], ...] = (
    *(spatial.Convolution, spatial.Deconvolution, spatial.Im2col, spatial.Pooling, spatial.SPP, spatial.Crop),
    *(pointwise.ReLU, pointwise.PReLU, pointwise.ELU, pointwise.Sigmoid, pointwise.TanH, pointwise.AbsVal),
    *(pointwise.BNLL, pointwise.Swish, pointwise.Clip, pointwise.Power, pointwise.Exp, pointwise.Log),
    *(pointwise.Threshold, pointwise.Dropout, pointwise.Eltwise, pointwise.Scale, pointwise.Bias),
    *(normalising.InnerProduct, normalising.Embed, normalising.LRN, normalising.BatchNorm, normalising.MVN),
    *(normalising.Softmax, shaping.Split, shaping.Silence, shaping.Concat, shaping.Slice, shaping.Flatten),
    *(shaping.Reshape, shaping.Tile, shaping.Reduction, shaping.BatchReindex, shaping.Filter, shaping.ArgMax),
    *(losses.SoftmaxWithLoss, losses.SigmoidCrossEntropyLoss, losses.EuclideanLoss, losses.HingeLoss),
    *(losses.MultinomialLogisticLoss, losses.InfogainLoss, losses.ContrastiveLoss, losses.Accuracy),
    *(recurrent.LSTM, recurrent.RNN, sources.Input, sources.DummyData),
    *(sources.HDF5Data, fcn_data.Python),
)
LAYERS: Mapping[str, type[Layer]] = {
    **{layer.__name__: layer for layer in _PLAIN},
    "Parameter": sources.ParameterLayer,
}
