"""What folding takes for granted, on networks made for it; tests/contract folds every kind of the catalogue."""

import copy

import pytest
import torch
from torch import nn

import resnetkit as rk
from resnetkit.deployment.folding import fold


class Fork(nn.Module):
    """A convolution that a norm reads, and `others` after it read too."""

    def __init__(self, others: int, identities: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.between = nn.ModuleList(nn.Identity() for _ in range(identities))
        self.norm = nn.BatchNorm2d(4)
        self.others = others
        with torch.no_grad():
            for values in (self.norm.weight, self.norm.bias, self.norm.running_mean, self.norm.running_var):
                values.copy_(torch.rand(4) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = y = self.conv(x)
        for each in self.between:
            y = each(y)
        y = self.norm(y)
        for _ in range(self.others):
            y = y + x
        return y


@torch.no_grad()
@pytest.mark.parametrize("identities", [0, 2])
@pytest.mark.parametrize("others", [0, 1, 2])
def test_only_a_convolution_that_the_norm_alone_reads_is_changed(others: int, identities: int):
    network = Fork(others, identities).eval().double()
    folded = fold(network)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-12, atol=1e-12)
    assert isinstance(folded.norm, nn.BatchNorm2d) == bool(others)


@torch.no_grad()
def test_what_folding_does_not_change_is_not_copied_and_the_network_stays_trainable():
    network = rk.create_model("resnet18", num_classes=3).train()
    before = copy.deepcopy(network.state_dict())
    folded = fold(network)
    assert folded.fc.weight.data_ptr() == network.fc.weight.data_ptr()
    assert folded.conv1.weight.data_ptr() != network.conv1.weight.data_ptr()
    folded.to(memory_format=torch.channels_last)
    assert network.conv1.weight.is_contiguous()
    assert network.training
    assert not folded.training
    assert all(each.requires_grad for each in network.parameters())
    assert not any(each.requires_grad for each in folded.parameters())
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())
