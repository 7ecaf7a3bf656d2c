"""Losses, and accuracy. Road: caffe, layers. Source: docs/explanation/caffe.md, "Losses".

Labels are numbers of any kind, cut to whole ones. Those outside the classes are refused (Caffe reads beyond its array).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from fullconv.caffe.layer import Layer, Shape, count

_LEAST = torch.finfo(torch.float32).tiny  # a probability counts as at least this
_LEAST_GIVEN = 1e-20  # likewise where probabilities are given


class _Loss(Layer):
    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)
    is_loss = True
    blind: ClassVar[tuple[int, ...]] = (1,)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [()]

    def normalizer(self, batch: int, whole: int, valid: Tensor, default: str) -> float:
        """What the sum is divided by: at least 1."""
        param = self.param.loss_param
        kind = default
        if param.has("normalization"):
            kind = param.normalization
        elif param.has("normalize"):
            kind = "VALID" if param.normalize else "BATCH_SIZE"
        return float(max(1, {"FULL": whole, "VALID": int(valid.sum()), "BATCH_SIZE": batch, "NONE": 1}[kind]))

    def valid(self, labels: Tensor) -> Tensor:
        """Which labels count."""
        param = self.param.loss_param
        return labels != param.ignore_label if param.has("ignore_label") else torch.ones_like(labels, dtype=torch.bool)

    def check_labels(self, labels: Tensor, valid: Tensor, classes: int) -> None:
        wrong = labels[valid & ((labels < 0) | (labels >= classes))]
        if len(wrong):
            self.fail(
                f"labels are 0 to {classes - 1}, or the ignore_label",
                f"{int(wrong[0])} ({len(wrong)} labels)",
                "set loss_param { ignore_label }, or mend the labels",
            )


class _LogLoss(torch.autograd.Function):
    """-log of softmax at the label, whose gradient is p - 1 also where p is below the least number."""

    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        probabilities = torch.softmax(scores, 1)
        ctx.save_for_backward(probabilities, labels, valid)
        given = probabilities.gather(1, labels[:, None])[:, 0].clamp(min=_LEAST)
        return -torch.where(valid, given.log(), torch.zeros_like(given)).sum()

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        probabilities, labels, valid = ctx.saved_tensors  # type: ignore[attr-defined]
        found = probabilities.clone()
        found.scatter_add_(1, labels[:, None], -torch.ones_like(labels, dtype=found.dtype)[:, None])
        return found * valid[:, None] * grad, None, None


class SoftmaxWithLoss(_Loss):
    """Mean of -log of the label's softmax over places that are not ignored."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        axis = self.axis(self.param.softmax_param.axis, scores)
        if scores[:1] != labels[:1]:
            self.fail("scores and labels have one number of items", f"{list(scores)} and {list(labels)}")
        if count(scores) // max(1, scores[axis]) != count(labels):
            self.fail("there is one label a place", f"scores {list(scores)}, labels {list(labels)}")
        return [()]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        scores = bottoms[0]
        axis = self.param.softmax_param.axis % scores.dim()
        outer, classes = count(scores.shape[:axis]), scores.shape[axis]
        labels = bottoms[1].detach().trunc().long().reshape(outer, -1)
        valid = self.valid(labels)
        self.check_labels(labels, valid, classes)
        summed = _LogLoss.apply(scores.reshape(outer, classes, -1), torch.where(valid, labels, 0), valid)
        return [summed / self.normalizer(outer, labels.numel(), valid, "VALID")]


class SigmoidCrossEntropyLoss(_Loss):
    """Cross entropy of sigmoid scores and targets of 0 to 1."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if count(bottoms[0]) != count(bottoms[1]) or bottoms[0][:1] != bottoms[1][:1] or not bottoms[0]:
            self.fail("scores and targets have one shape, of items", f"{list(bottoms[0])} and {list(bottoms[1])}")
        return [()]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        scores, targets = bottoms[0], bottoms[1].detach().reshape(bottoms[0].shape)
        valid = self.valid(targets.trunc())
        each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        summed = torch.where(valid, each, torch.zeros_like(each)).sum()
        return [summed / self.normalizer(scores.shape[0], scores.numel(), valid, "BATCH_SIZE")]


class EuclideanLoss(_Loss):
    """Sum of squared differences over twice the number of items."""

    blind = ()

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        one, other = bottoms
        if one[:1] != other[:1] or count(one[1:]) != count(other[1:]) or not one:
            self.fail("both bottoms have one size, of items", f"{list(one)} and {list(other)}")
        return [()]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        apart = bottoms[0] - bottoms[1].reshape(bottoms[0].shape)
        return [(apart * apart).sum() / (2 * len(bottoms[0]))]


class _ByLabel(_Loss):
    """A loss of one label an item."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if bottoms[0][:1] != (count(bottoms[1]),):
            self.fail("there is one label an item", f"{list(bottoms[0])} and {list(bottoms[1])}")
        return [()]

    def labelled(self, bottoms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(N, K) numbers and (N, 1) labels."""
        rows = bottoms[0].reshape(len(bottoms[0]), -1)
        labels = bottoms[1].detach().trunc().long().reshape(-1)
        self.check_labels(labels, torch.ones_like(labels, dtype=torch.bool), rows.shape[1])
        return rows, labels[:, None]


class HingeLoss(_ByLabel):
    """Sum of max(0, 1 - score) for the label and max(0, 1 + score) for the others, or of its squares."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        rows, labels = self.labelled(bottoms)
        sign = torch.ones_like(rows).scatter(1, labels, -1.0)
        short = F.relu(1 + sign * rows)
        return [(short * short if self.param.hinge_loss_param.norm == "L2" else short).sum() / len(rows)]


class MultinomialLogisticLoss(_ByLabel):
    """Mean of -log of the label's probability, as given."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        rows, labels = self.labelled(bottoms)
        return [-_log_of_given(rows.gather(1, labels)).sum() / len(rows)]


class InfogainLoss(_ByLabel):
    """-log of softmax, weighted by a matrix's row of the label: bottom 2, or a .binaryproto."""

    bottoms = (2, 3)
    blind = (1, 2)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms) < 3:
            self.fail(
                "the weights are bottom 2", "a file as source", "read it with fullconv.caffe and give it as a blob"
            )
        axis = self.axis(self.param.infogain_loss_param.axis, bottoms[0])
        if count(bottoms[0]) // max(1, bottoms[0][axis]) != count(bottoms[1]):
            self.fail("there is one label a place", f"scores {list(bottoms[0])}, labels {list(bottoms[1])}")
        if count(bottoms[2]) != bottoms[0][axis] ** 2:
            self.fail(f"the weights are {bottoms[0][axis]} x {bottoms[0][axis]}", f"shape {list(bottoms[2])}")
        return [()]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        scores = bottoms[0]
        axis = self.param.infogain_loss_param.axis % scores.dim()
        outer, classes = count(scores.shape[:axis]), scores.shape[axis]
        labels = bottoms[1].detach().trunc().long().reshape(outer, -1)
        valid = self.valid(labels)
        self.check_labels(labels, valid, classes)
        weights = bottoms[2].detach().reshape(classes, classes)[torch.where(valid, labels, 0)].movedim(-1, 1)
        probabilities = torch.softmax(scores.reshape(outer, classes, -1), 1)
        each = (weights * _log_of_given(probabilities)).sum(1)
        summed = torch.where(valid, each, torch.zeros_like(each)).sum()
        return [-summed / self.normalizer(outer, labels.numel(), valid, "VALID")]


class ContrastiveLoss(_Loss):
    """Squared distance of pairs that are alike, and how much those that are not lie within a margin."""

    bottoms = (3, 3)
    blind = (2,)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        one, other, label = bottoms
        if one != other or count(one[2:]) != 1 or one[:1] != (count(label),):
            self.fail("two bottoms of one shape, and one label an item", " and ".join(str(list(b)) for b in bottoms))
        return [()]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param = self.param.contrastive_loss_param
        alike = bottoms[2].detach().reshape(-1).trunc() != 0
        squared = ((bottoms[0] - bottoms[1]) ** 2).reshape(len(bottoms[0]), -1).sum(1)
        if param.legacy_version:
            within = F.relu(param.margin - squared)
        else:
            apart = torch.sqrt(torch.where(alike, torch.ones_like(squared), squared))
            within = F.relu(param.margin - apart) ** 2
        return [torch.where(alike, squared, within).sum() / (2 * len(squared))]


def _log_of_given(probabilities: Tensor) -> Tensor:
    """Logarithm of probabilities of at least 1e-20; its gradient is 1 over them there too."""
    least = probabilities + (probabilities.detach().clamp(min=_LEAST_GIVEN) - probabilities.detach())
    return least.log()


class Accuracy(Layer):
    """The share of places whose label is among the top_k highest scores; a tie counts against it."""

    bottoms = (2, 2)
    tops = (1, 2)
    blind = (0, 1)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        axis = self.axis(self.param.accuracy_param.axis, scores)
        if count(scores) // max(1, scores[axis]) != count(labels):
            self.fail("there is one label a place", f"scores {list(scores)}, labels {list(labels)}")
        if not 1 <= self.param.accuracy_param.top_k <= scores[axis]:
            self.fail(f"top_k is 1 to {scores[axis]}", str(self.param.accuracy_param.top_k))
        return [(), (scores[axis],)][: max(1, len(self.param.top))]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param, scores = self.param.accuracy_param, bottoms[0].detach()
        axis = param.axis % scores.dim()
        outer, classes = count(scores.shape[:axis]), scores.shape[axis]
        scores = scores.reshape(outer, classes, -1)
        labels = bottoms[1].detach().trunc().long().reshape(outer, -1)
        counted = (
            labels != param.ignore_label if param.has("ignore_label") else torch.ones_like(labels, dtype=torch.bool)
        )
        wrong = labels[counted & ((labels < 0) | (labels >= classes))]
        if len(wrong):
            self.fail(f"labels are 0 to {classes - 1}, or the ignore_label", f"{int(wrong[0])}", "mend the labels")
        known = torch.where(counted, labels, 0)
        true = scores.gather(1, known[:, None])
        right = ((scores >= true).sum(1) - 1 < param.top_k) & counted
        tops = [right.sum() / max(1, int(counted.sum()))]
        if len(self.param.top) > 1:
            number = torch.bincount(known[counted], minlength=classes)
            tops.append(torch.bincount(known[right], minlength=classes) / number.clamp(min=1))
        return [top.to(bottoms[0].dtype) for top in tops]
