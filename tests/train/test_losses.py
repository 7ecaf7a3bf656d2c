"""The Lovasz-softmax loss: where every pixel is certain it is 1 - IoU; it moves scores towards a better IoU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fullconv.train.losses import LOVASZ_SHARE, lovasz_softmax, softmax_and_lovasz_loss, softmax_loss


@pytest.mark.parametrize("seed", range(5))
def test_of_certain_pixels_it_is_one_minus_the_mean_iou(seed: int) -> None:
    torch.manual_seed(seed)
    truth, guess = torch.randint(0, 4, (60,)), torch.randint(0, 4, (60,))
    ious = [float(((truth == k) & (guess == k)).sum() / ((truth == k) | (guess == k)).sum()) for k in truth.unique()]
    loss = lovasz_softmax(F.one_hot(guess, 4).float(), truth)
    assert float(loss) == pytest.approx(1 - sum(ious) / len(ious), abs=1e-6)


def test_one_pixel_in_doubt_counts_by_what_it_costs() -> None:
    truth = torch.tensor([0, 0, 1, 1])
    doubt = torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0], [0.0, 1.0]])
    # the second pixel wrong: class 0 keeps 1 of 2 pixels, class 1 has 2 of 3; 0.4 of each loss
    assert float(lovasz_softmax(doubt, truth)) == pytest.approx(0.4 * ((1 - 1 / 2) + (1 - 2 / 3)) / 2)


def test_a_step_against_it_raises_the_iou_of_a_rare_class() -> None:
    torch.manual_seed(0)
    truth = (torch.rand(2000) < 0.03).long()
    scores = torch.stack([torch.zeros(2000), -1 + truth + 0.3 * torch.randn(2000)], 1).requires_grad_()

    def iou() -> float:
        guess = scores.argmax(1)
        return float(((guess == 1) & (truth == 1)).sum() / ((guess == 1) | (truth == 1)).sum())

    before = iou()
    for _ in range(20):
        (gradient,) = torch.autograd.grad(lovasz_softmax(scores.softmax(1), truth), scores)
        scores = (scores - 20 * gradient).detach().requires_grad_()
    assert iou() > before + 0.1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_beside_the_softmax_loss_it_has_its_share(reduction: str) -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))
    labels[0, :2] = 255
    how = {"void": 255, "weights": None, "reduction": reduction}
    known = labels != 255
    share = LOVASZ_SHARE * lovasz_softmax(scores.permute(0, 2, 3, 1)[known].softmax(1), labels[known])
    pixels = int(known.sum()) if reduction == "sum" else 1
    both = softmax_and_lovasz_loss(scores, labels, **how)
    assert float(both - softmax_loss(scores, labels, **how)) == pytest.approx(float(share) * pixels, rel=1e-4)


def test_of_many_pixels_some_are_drawn() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(1, 3, 300, 300), torch.randint(0, 3, (1, 300, 300))
    how = {"void": 255, "weights": None, "reduction": "mean"}
    whole = LOVASZ_SHARE * lovasz_softmax(scores.permute(0, 2, 3, 1).reshape(-1, 3).softmax(1), labels.flatten())
    some = [float(softmax_and_lovasz_loss(scores, labels, **how) - softmax_loss(scores, labels, **how)) for _ in "ab"]
    assert some[0] != some[1]
    assert some == pytest.approx([float(whole)] * 2, rel=0.05)
