"""Lesson 1: ResNet-34 by hand.

He et al. 2015 (https://arxiv.org/abs/1512.03385), table 1 and figure 3, in about sixty lines. At the end it takes the
weights of `rk.resnet34()`: the same keys, the same answers. Run it: python docs/lessons/01_resnet34.py
"""

import torch
from torch import nn

import resnetkit as rk


class BasicBlock(nn.Module):
    """Figure 2: two 3×3 convolutions learn what to add to the input."""

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Identity()
        if stride > 1:  # the shape changes, so the shortcut must change it too (section 3.3, option B)
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(residual + self.downsample(x))


def layer(in_channels, channels, blocks, stride):
    """The first block halves height and width (but in layer1); the others keep the shape."""
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


class ResNet34(nn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = layer(64, 64, blocks=3, stride=1)
        self.layer2 = layer(64, 128, blocks=4, stride=2)
        self.layer3 = layer(128, 256, blocks=6, stride=2)
        self.layer4 = layer(256, 512, blocks=3, stride=2)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))  # the stem: edges and colours
        x = self.maxpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))  # every channel's mean over the picture says how much of it there is


@torch.no_grad()
def main():
    torch.manual_seed(0)
    by_hand = ResNet34().eval()
    pictures = torch.randn(2, 3, 224, 224)  # N, channels, height, width

    # The shape after each part: each stage sees half as many places and twice as many channels.
    x = torch.relu(by_hand.bn1(by_hand.conv1(pictures)))
    print("stem   ", tuple(x.shape))
    x = by_hand.maxpool(x)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = by_hand.get_submodule(name)(x)
        print(name, "", tuple(x.shape))
    print("logits ", tuple(by_hand(pictures).shape))

    # The same weights in resnetkit's network give the same answers.
    kit = rk.resnet34().eval()
    assert list(kit.state_dict()) == list(by_hand.state_dict())
    by_hand.load_state_dict(kit.state_dict())
    torch.testing.assert_close(by_hand(pictures), kit(pictures))
    print("equal keys, equal logits:", f"{sum(weights.numel() for weights in by_hand.parameters()):,} parameters")


if __name__ == "__main__":
    main()
