"""The repeated blocks of a network."""

import pytest
import torch
from torch import nn

import eigencode as ec
from eigencode.errors import ActivationError


@pytest.fixture
def images(generator):
    return torch.rand(60, 1, 8, 8, generator=generator)


def _net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 3))


class TestBlocks:
    def test_the_class_of_which_a_container_has_most(self):
        def block():
            return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        network = nn.ModuleDict({"stem": nn.Sequential(_net(), _net()), "layers": nn.ModuleList([block(), block(), block()])})
        network.forward = lambda x: self._through(network, x)
        assert list(ec.measure(network, torch.randn(30, 5, 8), layers="blocks")) == ["layers.0", "layers.1", "layers.2"]

    @staticmethod
    def _through(network, x):
        for layer in network["layers"]:
            x = layer(x)
        return x

    def test_a_module_of_that_name_is_not_meant(self, images):
        class Named(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.Sequential(*(Around2() for _ in range(2)))
                self.head = nn.Linear(64, 2)

            def forward(self, x):
                return self.head(self.blocks(x.flatten(1)))

        assert list(ec.measure(Named(), images, layers="blocks")) == ["blocks.0", "blocks.1"]
        assert list(ec.measure(Named(), images, layers="head")) == ["blocks.1.act"]
        assert list(ec.measure(Named(), images, layers=["blocks#1", "head#1"])) == ["blocks", "head"]

    def test_none(self, images):
        with pytest.raises(ActivationError, match="'blocks' finds none"):
            ec.measure(_net(), images, layers="blocks")


class Around2(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.act = nn.Linear(64, 64), nn.Tanh()

    def forward(self, x):
        return self.act(self.linear(x))
