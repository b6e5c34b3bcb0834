"""The built-in networks: shapes on every kind of data they are for, overrides, outputs, and the published start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from ganglion.engine.api import DataSpec, NetworkContext, NetworkError, Port
from ganglion.networks.builtin import definitions
from ganglion.networks.dcgan import DCGANDiscriminator, DCGANGenerator, DCGANSettings
from ganglion.networks.definition import parse_definition
from ganglion.networks.fourierdiscriminator import FourierDiscriminator, FourierSettings, Waves
from ganglion.networks.layered import LayeredNetwork

DATA = {
    "mnist": DataSpec("image", (1, 28, 28)),
    "digits": DataSpec("image", (1, 8, 8)),
    "colour": DataSpec("image", (3, 32, 32)),
    "wide": DataSpec("image", (3, 30, 65)),
    "points": DataSpec("vector", (2,)),
    "series": DataSpec("sequence", (7, 3)),
}
IMAGES = ("mnist", "digits", "colour", "wide")
NETWORKS: dict[str, Any] = {definition.name: definition for definition in definitions()}
NETWORKS |= {"DCGANGenerator": DCGANGenerator(), "DCGANDiscriminator": DCGANDiscriminator()}
SUPPORTED = {
    "Generator": tuple(DATA),
    "Discriminator": tuple(DATA),
    "DianneGenerator": tuple(DATA),
    "DianneDiscriminator": tuple(DATA),
    "DCGANGenerator": IMAGES,
    "DCGANDiscriminator": IMAGES,
    "ConvGenerator": IMAGES,
    "ConvDiscriminator": IMAGES,
    "PerceptronGenerator": tuple(DATA),
    "PerceptronDiscriminator": tuple(DATA),
    "MLP": tuple(DATA),
    "CNN": IMAGES,
    "Autoencoder": (*IMAGES, "points"),
    "Encoder": (*IMAGES, "points"),
    "Decoder": (*IMAGES, "points"),
}


def context(
    name: str, data: DataSpec, overrides: Mapping[str, Any] | None = None, settings: Any = None
) -> NetworkContext:
    """The context of a built-in network: generators make data, discriminators score them, others name ten classes."""
    own = Port(data.kind, data.shape)
    ports = (own, Port("classes", (10,)))
    if "Generator" in name:
        ports = (Port("noise", (10,)), own)
    elif "Discriminator" in name:
        ports = (own, Port("score", (1,)))
    return NetworkContext("role", *ports, data, settings, overrides or {})


def build(name: str, data: str, **given: Any) -> LayeredNetwork:
    """A built-in network for one of the DATA."""
    network: LayeredNetwork = NETWORKS[name](context(name, DATA[data], **given))
    return network


def kinds(network: nn.Module) -> list[str]:
    """The classes of the layers, in order."""
    return [type(layer).__name__ for layer in network.layers]


def test_the_built_in_networks_are_those() -> None:
    assert set(NETWORKS) == set(SUPPORTED)
    assert all(network.__doc__ for network in NETWORKS.values())


@pytest.mark.parametrize(("name", "data"), [(name, data) for name in SUPPORTED for data in SUPPORTED[name]])
def test_output_has_the_shape_that_the_role_wants(name: str, data: str) -> None:
    wanted = context(name, DATA[data])
    network = build(name, data)
    output = network(torch.randn(3, *wanted.input.shape))
    assert output.shape == (3, *wanted.output.shape)
    assert network.training
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("name", "data"), [(n, d) for n in SUPPORTED for d in DATA if d not in SUPPORTED[n]])
def test_other_kinds_of_data_are_refused_in_one_sentence(name: str, data: str) -> None:
    with pytest.raises(
        NetworkError, match=r"no variant for (vector|sequence) data; there are|is for images of at least"
    ):
        build(name, data)


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_resolved_definition_rebuilds_the_same_network(name: str) -> None:
    data = SUPPORTED[name][0]
    network = build(name, data)
    wanted = context(name, DATA[data])
    copy = parse_definition(network.to_yaml())(wanted)
    copy.load_state_dict(network.state_dict())
    x = torch.randn(2, *wanted.input.shape)
    assert torch.equal(copy.eval()(x), network.eval()(x))
    assert copy.to_yaml() == network.to_yaml()
    assert (copy.output_range, copy.outputs) == (network.output_range, network.outputs)


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    torch.manual_seed(7)
    first = build(name, SUPPORTED[name][0]).state_dict()
    torch.manual_seed(7)
    second = build(name, SUPPORTED[name][0]).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_generator_is_the_published_perceptron() -> None:
    image, points = build("Generator", "mnist"), build("Generator", "points")
    stage = ["Linear", "LeakyReLU", "Dropout"]
    assert kinds(image) == [*stage, *stage, *stage, "Linear", "Tanh", "Reshape"]
    assert [layer.out_features for layer in image.layers if isinstance(layer, nn.Linear)] == [256, 512, 1024, 784]
    assert image.layers[1].negative_slope == 0.01 and image.layers[2].p == 0.2
    assert image.output_range == (-1.0, 1.0) and points.output_range is None
    assert [layer.out_features for layer in points.layers if isinstance(layer, nn.Linear)] == [16, 32, 2]


def test_discriminator_is_the_published_perceptron_without_sigmoid() -> None:
    image, points = build("Discriminator", "mnist"), build("Discriminator", "points")
    assert [layer.out_features for layer in image.layers if isinstance(layer, nn.Linear)] == [1024, 512, 256, 1]
    assert [layer.out_features for layer in points.layers if isinstance(layer, nn.Linear)] == [128, 64, 32, 1]
    assert kinds(points)[:3] == ["Linear", "ReLU", "Dropout"]
    assert "Sigmoid" not in kinds(image) + kinds(points) and image.outputs is None


def test_an_autoencoding_discriminator_gets_the_shape_of_the_data() -> None:
    data = DATA["digits"]
    port = Port("image", data.shape)
    network = NETWORKS["Discriminator"](NetworkContext("discriminator", port, port, data))
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 8, 8)


def test_dianne_pair_has_its_sizes_and_gives_logits() -> None:
    generator, discriminator = build("DianneGenerator", "mnist"), build("DianneDiscriminator", "mnist")
    assert sum(parameter.numel() for parameter in generator.parameters()) == 10 * 512 + 512 + 512 * 784 + 784
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 784 * 512 + 512 + 512 + 1
    made = generator(torch.randn(4, 10))
    assert generator.output_range == (0.0, 1.0) and made.min() > 0 and made.max() < 1
    x = torch.randn(5, 1, 28, 28)
    assert discriminator.outputs == "probability" and kinds(discriminator)[-1] == "Linear"
    assert discriminator.definition["layers"][-1] == "Sigmoid"
    assert torch.equal(discriminator.probability(x), torch.sigmoid(discriminator(x)))


@pytest.mark.parametrize(("data", "stages"), [("digits", 1), ("mnist", 2), ("colour", 3), ("wide", 3)])
def test_dcgan_has_as_many_stages_as_the_image_asks_for(data: str, stages: int) -> None:
    generator, discriminator = build("DCGANGenerator", data), build("DCGANDiscriminator", data)
    ups = [layer for layer in generator.modules() if isinstance(layer, nn.ConvTranspose2d)]
    downs = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in ups] == [(1, 1)] + [(2, 2)] * stages
    assert [layer.stride for layer in downs] == [(2, 2)] * stages + [(1, 1)]
    assert [layer.out_channels for layer in ups[:-1]] == [64 * 2**stage for stage in reversed(range(stages))]
    assert kinds(discriminator)[:2] == ["Conv2d", "LeakyReLU"]
    assert kinds(generator)[-3:] == ["ConvTranspose2d", "Crop", "Tanh"]
    assert kinds(generator).count("BatchNorm2d") == stages and kinds(discriminator).count("BatchNorm2d") == stages - 1


def test_dcgan_starts_as_published_and_takes_its_width() -> None:
    network = build("DCGANGenerator", "colour", settings=DCGANSettings(width=16))
    ups = [layer for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in ups] == [64, 32, 16, 3]
    norm = next(layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    assert ups[1].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert ups[1].weight.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.02) and 0.01 < norm.weight.std().item() < 0.03
    assert not norm.bias.any()


def test_dcgan_refuses_small_images() -> None:
    with pytest.raises(NetworkError, match=r"images of at least 8 x 8 pixels, not for image data of shape \(1, 7, 9\)"):
        NETWORKS["DCGANDiscriminator"](context("DCGANDiscriminator", DataSpec("image", (1, 7, 9))))


def test_classifier_features_are_what_the_last_linear_is_given() -> None:
    network = build("CNN", "mnist").eval()
    x = torch.randn(3, 1, 28, 28)
    features = network.features(x)
    last = [layer for layer in network.layers if isinstance(layer, nn.Linear)][-1]
    assert features.shape == (3, 128)
    assert torch.equal(last(features), network(x))
    assert build("MLP", "points").features(torch.zeros(2, 2)).shape == (2, 128)


def test_features_need_a_linear_layer() -> None:
    with pytest.raises(NetworkError, match="DCGANDiscriminator has no Linear layer, so it has no features"):
        build("DCGANDiscriminator", "digits").features(torch.zeros(2, 1, 8, 8))


def test_overrides_reach_every_layer_of_a_type_and_the_record() -> None:
    network = build("Discriminator", "mnist", overrides={"Dropout.p": "0.3", "LeakyReLU.negativeSlope": 0.2})
    assert [layer.p for layer in network.layers if isinstance(layer, nn.Dropout)] == [0.3] * 3
    assert [layer.negative_slope for layer in network.layers if isinstance(layer, nn.LeakyReLU)] == [0.2] * 3
    assert network.definition["layers"].count({"Dropout": {"p": 0.3}}) == 3
    dcgan = build("DCGANDiscriminator", "mnist", overrides={"LeakyReLU.negative_slope": "0.1"})
    assert dcgan.layers[1].negative_slope == 0.1
    wide = build("MLP", "points", overrides={"first.outFeatures": "32"})
    assert wide.layers.first.out_features == 32 and wide.layers.second.in_features == 32


def test_layer_arguments_say_what_may_be_overridden() -> None:
    generator = NETWORKS["Generator"]
    everywhere = generator.layer_arguments()
    assert everywhere["Dropout"] == ("p",)
    assert everywhere["LeakyReLU"] == ("negative_slope", "negativeSlope")
    assert everywhere["Linear"] == ("out_features", "outFeatures", "bias")
    assert "Dropout" not in generator.layer_arguments(context("Generator", DATA["points"]))
    dcgan = NETWORKS["DCGANGenerator"]
    assert dcgan.layer_arguments() == dcgan.layer_arguments(context("DCGANGenerator", DATA["mnist"]))
    assert "momentum" in dcgan.layer_arguments()["BatchNorm2d"]


def test_dcgan_without_batch_norm_has_biases_and_torchs_own_start() -> None:
    plain = build("DCGANDiscriminator", "mnist", settings=DCGANSettings(width=8, batch_norm=False))
    assert "BatchNorm2d" not in kinds(plain)
    convolutions = [layer for layer in plain.layers if isinstance(layer, nn.Conv2d)]
    assert all(layer.bias is not None for layer in convolutions)
    assert float(convolutions[-1].weight.detach().std()) == pytest.approx((1 / 3 / (7 * 7 * 16)) ** 0.5, rel=0.1)
    published = build("DCGANDiscriminator", "mnist", settings=DCGANSettings(width=8))
    assert float(next(iter(published.parameters())).detach().std()) == pytest.approx(0.02, rel=0.3)


def test_fourier_features_have_slopes_of_the_same_size_at_every_scale() -> None:
    waves = Waves(2, 16, 30.0)
    assert waves(torch.zeros(3, 2)).shape == (3, 34)
    slopes = waves.frequencies.norm(dim=0) * waves.amplitudes
    assert torch.allclose(slopes, torch.ones(16))
    assert float(waves.frequencies.norm(dim=0).max() / waves.frequencies.norm(dim=0).min()) > 5
    point = torch.tensor([[0.3, -0.2]])
    phases = point @ waves.frequencies
    expected = torch.cat((point, phases.sin() * waves.amplitudes, phases.cos() * waves.amplitudes), 1)
    assert torch.equal(waves(point), expected)


def test_the_fourier_discriminator_is_for_points() -> None:
    points = DataSpec("vector", (2,))
    network = FourierDiscriminator()(context("Discriminator", points, settings=FourierSettings(waves=4, width=8)))
    assert network(torch.zeros(5, 2)).shape == (5, 1)
    with pytest.raises(NetworkError, match="FourierDiscriminator is for points, not for image data"):
        FourierDiscriminator()(context("Discriminator", DATA["mnist"]))
