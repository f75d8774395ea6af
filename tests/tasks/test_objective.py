"""The losses against their definitions written out in float64."""

import numpy as np
import torch

from resnetkit.tasks.objective import Objective

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -2.0]])
SHARES = np.array([[0.7, 0.3, 0.0], [0.1, 0.0, 0.9]])


def test_cross_entropy_of_shares_is_the_mean_of_minus_share_times_log_probability():
    logits = LOGITS.double().numpy()
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = 0.9 * SHARES + 0.1 / 3
    wanted = -(smooth * logs).sum(1).mean()
    got = Objective("cross_entropy", smoothing=0.1)(LOGITS, torch.tensor(SHARES, dtype=torch.float32))
    np.testing.assert_allclose(float(got), wanted, rtol=1e-6)


def test_binary_cross_entropy_takes_every_class_of_a_mixed_image_as_there():
    chance = 1 / (1 + np.exp(-LOGITS.double().numpy()))
    there = np.array([[1, 1, 0], [0, 0, 1]])  # a tenth of an image is too little of a class to be seen
    smooth = there * 0.9 + 0.1 / 3
    wanted = -(smooth * np.log(chance) + (1 - smooth) * np.log(1 - chance)).mean()
    got = Objective("bce", smoothing=0.1)(LOGITS, torch.tensor(SHARES, dtype=torch.float32))
    np.testing.assert_allclose(float(got), wanted, rtol=1e-6)


def test_classes_or_shares_of_one_say_the_same():
    classes = torch.tensor([2, 0])
    shares = torch.eye(3)[classes]
    for loss in ("cross_entropy", "bce"):
        objective = Objective(loss, smoothing=0.1, weights=torch.tensor([1.0, 1.0, 1.0]))
        torch.testing.assert_close(objective(LOGITS, classes), objective(LOGITS, shares))


def test_weights_count_classes_more_or_less():
    logits, weights = LOGITS.double().numpy(), np.array([1.0, 5.0, 0.5])
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    classes = np.array([1, 2])
    wanted = -(weights[classes] * logs[[0, 1], classes]).mean()
    got = Objective("cross_entropy", weights=torch.tensor(weights, dtype=torch.float32))(LOGITS, torch.tensor(classes))
    np.testing.assert_allclose(float(got), wanted, rtol=1e-6)


def test_summed_over_classes_the_loss_is_that_of_all_answers_of_an_image():
    classes = torch.tensor([2, 0])
    mean, total = (Objective("bce", classes=how)(LOGITS, classes) for how in ("mean", "sum"))
    torch.testing.assert_close(total, 3 * mean)


def test_weights_count_the_same_in_a_batch_of_one_and_as_shares():
    objective = Objective("cross_entropy", weights=torch.tensor([1.0, 5.0, 0.5]), smoothing=0.1)
    classes = torch.tensor([1, 2])
    whole = objective(LOGITS, classes)
    torch.testing.assert_close(whole, (objective(LOGITS[:1], classes[:1]) + objective(LOGITS[1:], classes[1:])) / 2)
    torch.testing.assert_close(whole, objective(LOGITS, torch.eye(3)[classes]))
