"""Where the channels of maps are."""

import pytest
import torch
from torch import nn

import eigencode as ec


class ChannelsLast(nn.Module):
    """Maps (n, height, width, channels), turned around by functions, as in Swin and ConvNeXt."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.widen, self.act = nn.Conv2d(3, 5, 1), nn.LayerNorm(5), nn.Linear(5, 7), nn.GELU()
        self.back, self.fc = nn.Conv2d(7, 4, 1), nn.Linear(4, 2)

    def forward(self, x):
        x = self.act(self.widen(self.norm(self.conv(x).permute(0, 2, 3, 1))))
        return self.fc(self.back(x.permute(0, 3, 1, 2)).mean(dim=(2, 3)))


def test_channels_are_where_the_module_has_them(generator):
    images = torch.rand(30, 3, 6, 4, generator=generator)
    network = ChannelsLast()
    spectra = ec.measure(network, images, layers="all", units="channels")
    assert {name: spectrum.n_features for name, spectrum in spectra.items()} == {
        "conv": 5, "norm": 5, "widen": 7, "act": 7, "back": 4, "fc": 2,
    }  # fmt: skip
    assert spectra["act"].n_samples == 30 * 24
    with torch.no_grad():
        code = network.act(network.widen(network.norm(network.conv(images).permute(0, 2, 3, 1))))
    expected = ec.Eigenspectrum.from_activations(code.reshape(-1, 7))
    assert torch.allclose(spectra["act"].eigenvalues, expected.eigenvalues, atol=1e-6)
    pooled = ec.measure(network, images, layers="act", units="pooled")["act"]
    assert torch.allclose(pooled.eigenvalues, ec.Eigenspectrum.from_activations(code.mean(dim=(1, 2))).eigenvalues, atol=1e-6)
    assert ec.measure(network, images, layers="act", units="channels", channels="first")["act"].n_features == 6


def test_where_channels_cannot_be_known_is_said(generator):
    class Turned(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    network = nn.Sequential(Turned(), nn.Flatten(), nn.Linear(24, 2))
    spectra = ec.measure(network, torch.rand(30, 3, 2, 4, generator=generator), layers="0", units="channels")
    assert spectra.notes == {"0": "`0` does not say where its channels are: the first axis after that of inputs was taken"}


def test_one_dimensional_convolutions_have_channels_first(generator):
    network = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(30, 2))
    spectra = ec.measure(network, torch.rand(30, 2, 8, generator=generator), layers=["0", "1"], units="channels")
    assert [spectrum.n_features for spectrum in spectra.values()] == [5, 5]


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.PReLU(8), nn.Flatten(), nn.Linear(512, 2)), "1"),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU(), nn.Flatten(), nn.Linear(512, 2)), "1"),
    ],
)
def test_maps_as_wide_as_they_have_channels(generator, network, name):
    images = torch.rand(20, 3, 8, 8, generator=generator)
    found = ec.measure(network, images, layers=name, units="pooled")
    with torch.no_grad():
        expected = ec.Eigenspectrum.from_activations(network[:2](images).mean(dim=(2, 3)))
    assert torch.allclose(found[name].eigenvalues, expected.eigenvalues, atol=1e-7)
    assert found.notes == {}


def test_where_maps_as_wide_as_they_have_channels_are_turned_around_is_said(generator):
    class First(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    network = nn.Sequential(nn.Conv2d(3, 8, 1), First(8), nn.Flatten(), nn.Linear(512, 2))
    images = torch.rand(20, 3, 8, 8, generator=generator)
    found = ec.measure(network, images, layers="1", units="pooled")["1"]
    with torch.no_grad():
        expected = ec.Eigenspectrum.from_activations(network[:2](images).mean(dim=(2, 3)))
    assert torch.allclose(found.eigenvalues, expected.eigenvalues, atol=1e-7)
