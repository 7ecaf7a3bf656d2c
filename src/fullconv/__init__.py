"""fullconv: from a folder of photos and label maps to a measured segmenter.

The public names, by station of the road. Importing fullconv imports no torch
until a name needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_STATIONS = {
    # samples
    "read_samples": "fullconv.data.read",
    "convert_samples": "fullconv.data.convert",
    "read_class_folders": "fullconv.data.formats.class_folders",
    "Sample": "fullconv.data.samples",
    "SampleSet": "fullconv.data.samples",
    "LabelSpace": "fullconv.labels.space",
    "fingerprint": "fullconv.data.fingerprint",
    # classifier, surgery, geometry
    "build_classifier": "fullconv.nets.classifiers",
    "classifier_steps": "fullconv.train.classifier",
    "convolutionalize": "fullconv.nets.surgery",
    "prove": "fullconv.nets.proof",
    "geometry_of": "fullconv.nets.trace",
    "Preparation": "fullconv.nets.preparation",
    "read_classifier": "fullconv.nets.sources",
    "save_converted": "fullconv.nets.converted",
    "load_converted": "fullconv.nets.converted",
    "layers_of": "fullconv.nets.costs",
    "sizes_giving": "fullconv.nets.sizes",
    "conv_as_linear": "fullconv.nets.matrix",
    # the ways of dense prediction
    "dense_classifier": "fullconv.dense.ways",
    "dense_scores": "fullconv.dense.ways",
    "Choices": "fullconv.dense.ways",
    "rarefy": "fullconv.dense.rarefied",
    # heads and training
    "fcn32s": "fullconv.nets.heads",
    "fcn16s": "fullconv.nets.heads",
    "fcn8s": "fullconv.nets.heads",
    "fcn4s": "fullconv.nets.heads",
    "sharp": "fullconv.nets.sharp",
    "recipe": "fullconv.train.recipe",
    "with_reduction": "fullconv.train.recipe",
    "training_steps": "fullconv.train.loop",
    "fit_offsets": "fullconv.train.offsets",
    # measuring, use
    "evaluate": "fullconv.road",
    "compare": "fullconv.measure.compare",
    "save_bundle": "fullconv.nets.bundle",
    "load": "fullconv.nets.bundle",
    "Prediction": "fullconv.predict.photo",
    # the study of samples
    "read_case": "fullconv.study.case",
    "findings_of": "fullconv.study.rules",
    "Finding": "fullconv.study.findings",
    "study_samples": "fullconv.study_road",
    "Questions": "fullconv.study.questions",
    "Studied": "fullconv.study_road",
    "mend_samples": "fullconv.study.repairs",
    # the whole road
    "run": "fullconv.road",
    "Asked": "fullconv.road",
    "FullconvError": "fullconv.base.errors",
}

__all__ = list(_STATIONS)

if TYPE_CHECKING:
    from fullconv.base.errors import FullconvError
    from fullconv.data.convert import convert_samples
    from fullconv.data.fingerprint import fingerprint
    from fullconv.data.formats.class_folders import read_class_folders
    from fullconv.data.read import read_samples
    from fullconv.data.samples import Sample, SampleSet
    from fullconv.dense.rarefied import rarefy
    from fullconv.dense.ways import Choices, dense_classifier, dense_scores
    from fullconv.labels.space import LabelSpace
    from fullconv.measure.compare import compare
    from fullconv.nets.bundle import load, save_bundle
    from fullconv.nets.classifiers import build_classifier
    from fullconv.nets.converted import load_converted, save_converted
    from fullconv.nets.costs import layers_of
    from fullconv.nets.heads import fcn4s, fcn8s, fcn16s, fcn32s
    from fullconv.nets.matrix import conv_as_linear
    from fullconv.nets.preparation import Preparation
    from fullconv.nets.proof import prove
    from fullconv.nets.sharp import sharp
    from fullconv.nets.sizes import sizes_giving
    from fullconv.nets.sources import read_classifier
    from fullconv.nets.surgery import convolutionalize
    from fullconv.nets.trace import geometry_of
    from fullconv.predict.photo import Prediction
    from fullconv.road import Asked, evaluate, run
    from fullconv.study.case import read_case
    from fullconv.study.findings import Finding
    from fullconv.study.questions import Questions
    from fullconv.study.repairs import mend_samples
    from fullconv.study.rules import findings_of
    from fullconv.study_road import Studied, study_samples
    from fullconv.train.classifier import classifier_steps
    from fullconv.train.loop import training_steps
    from fullconv.train.offsets import fit_offsets
    from fullconv.train.recipe import recipe, with_reduction


def __getattr__(name: str) -> Any:
    if name not in _STATIONS:
        raise AttributeError(f"module 'fullconv' has no attribute {name!r}")
    value = getattr(importlib.import_module(_STATIONS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_STATIONS])
