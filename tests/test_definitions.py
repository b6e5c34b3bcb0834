"""YAML definitions: expressions, layers and inferred sizes, blocks, branches, overrides, limits, and every error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ganglion.engine.api import ConfigError, DataSpec, InputError, NetworkContext, NetworkError, Port
from ganglion.networks.catalogue import LAYERS, layer_type
from ganglion.networks.definition import load_definition, parse_definition, to_yaml
from ganglion.networks.expressions import evaluate
from ganglion.networks.layered import LayeredNetwork

HEAD = "name: N\ndoc: A test.\n"


def network(
    layers: str, shape: tuple[int, ...], output: tuple[int, ...], head: str = "", score: bool = False, **overrides: Any
) -> LayeredNetwork:
    """The network of a list of layers (one a line) for rows of `shape`; overrides are written `Layer__argument`."""
    kind = {1: "vector", 2: "sequence", 3: "image"}[len(shape)]
    data = DataSpec(kind, shape, classes=("a", "b", "c"))  # type: ignore[arg-type]
    given = {key.replace("__", "."): value for key, value in overrides.items()}
    lines = "".join(f"  - {line}\n" for line in layers.strip().splitlines())
    ports = (Port(data.kind, shape), Port("score" if score else "vector", output))
    built = parse_definition(f"{HEAD}{head}layers:\n{lines or '  []'}", "n.yaml")(
        NetworkContext("r", *ports, data, None, given)
    )
    assert isinstance(built, LayeredNetwork)
    return built


def fill(module: nn.Module, *values: float) -> nn.Module:
    """Set the parameters, in order, to constants."""
    for parameter, value in zip(module.parameters(), values, strict=True):
        nn.init.constant_(parameter, value)
    return module


# --- expressions ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("2 - 3 - 4", -5),
        ("100 // 7 // 2", 7),
        ("-7 // 2", -4),
        ("-width + 2 * width", 8),
        ("max(width, output.size, 3)", 10),
        ("min(width * 2, output.size) - 1", 9),
        ("0.5 * width", 4.0),
        ("output.shape", (2, 5)),
    ],
)
def test_expressions_have_the_usual_precedence(text: str, value: Any) -> None:
    assert evaluate(text, {"width": 8, "output.size": 10, "output.shape": (2, 5)}) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 ** 3", r"'2 \*\* 3' is not allowed"),
        ("7 / 2", "not allowed"),
        ("__import__('os')", "not allowed"),
        ("width.__class__", "unknown value 'width.__class__'"),
        ("[1, 2]", "not allowed"),
        ("True", "not allowed"),
        ("max()", "not allowed"),
        ("lambda: 1", "not allowed"),
        ("width if 1 else 2", "not allowed"),
        ("width +", "is not an expression"),
        ("(" * 150, "is not an expression"),
        ("1 +" * 100 + "1", "200 is the limit"),
        ("widht", "unknown value 'widht' in .*; did you mean 'width'"),
        ("3 // (width - 8)", "division of 3 by zero"),
        ("shape * 2", "'shape' is not a number"),
        ("9000000000 * 9000000000", "a value beyond"),
    ],
)
def test_other_expressions_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(text, {"width": 8, "shape": (2, 5)})


# --- inferred sizes and values ---


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 32, 32)])
def test_sizes_of_image_layers_are_inferred(shape: tuple[int, ...]) -> None:
    layers = """
Conv2d: {out_channels: 4, kernel_size: 3, padding: 1, bias: no}
BatchNorm2d
LeakyReLU: 2e-1
GroupNorm: 2
InstanceNorm2d
LayerNorm
ConvTranspose2d: {outChannels: 6, kernelSize: [4, 4], stride: "2,2", padding: 1}
MaxPool2d: 2
Linear: "${2 * output.size}"
BatchNorm1d
Linear: ${output.size}"""
    built = network(layers, shape, (10,))
    found = list(built.layers)
    height, width = shape[1:]
    assert (found[0].in_channels, found[0].bias) == (shape[0], None)
    assert found[1].num_features == found[3].num_channels == found[4].num_features == 4
    assert found[2].negative_slope == 0.2
    assert found[5].normalized_shape == (4, height, width)
    assert (found[6].in_channels, found[6].stride) == (4, (2, 2))
    assert isinstance(found[8], nn.Flatten) and found[9].in_features == 6 * height * width
    assert (found[10].num_features, found[11].in_features) == (20, 20)
    assert built(torch.zeros(3, *shape)).shape == (3, 10)


def test_linear_acts_on_the_last_dimension_of_vectors_and_sequences() -> None:
    assert network("Linear: 5", (2,), (5,)).layers[0].in_features == 2
    series = network("Linear: 5\nLayerNorm", (7, 3), (7, 5))
    assert series.layers[0].in_features == 3 and series.layers[1].normalized_shape == (5,)


def test_values_of_the_context_reach_expressions() -> None:
    layers = 'Reshape: ["${data.height}", "${data.width * data.channels}"]\nLinear: ${data.classes}'
    built = network(layers, (2, 4, 6), (4, 3))
    assert built.layers[0].shape == (4, 12) and built.layers[1].out_features == 3
    assert network("Linear: ${output.size}", (2, 4, 6), (4, 3)).layers[-1].shape == (4, 3)
    constants = "constants: {width: 4, double: '${width * 2}'}\n"
    assert network("Linear: ${double}\nLinear: ${width}", (2,), (4,), constants).layers[0].out_features == 8


def test_a_network_that_ends_flat_gets_the_shape_of_its_role() -> None:
    built = network("Linear: 12", (2,), (3, 2, 2))
    assert built(torch.zeros(5, 2)).shape == (5, 3, 2, 2)
    assert built.definition["layers"] == [{"Linear": {"out_features": 12}}, {"Reshape": {"shape": [3, 2, 2]}}]
    assert network("Linear: 1", (2,), (), score=True)(torch.zeros(5, 2)).shape == (5,)


def test_crop_keeps_the_middle() -> None:
    x = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert network("Crop: [3, 2]", (1, 5, 5), (1, 3, 2))(x).tolist() == [[[[6, 7], [11, 12], [16, 17]]]]


def test_spectral_norm_bounds_the_largest_singular_value() -> None:
    built = network("{Linear: 6, spectral_norm: true}", (6,), (6,)).eval()
    assert torch.linalg.matrix_norm(built.layers[0].weight, ord=2).item() == pytest.approx(1.0, abs=0.05)
    assert built.definition["layers"] == [{"Linear": {"out_features": 6}, "spectral_norm": True}]


def test_every_listed_layer_can_be_described() -> None:
    for name in LAYERS:
        layer = layer_type(name)
        assert "inplace" not in layer.arguments and "device" not in layer.arguments
        assert layer.inferred is None or layer.inferred in layer.arguments


# --- branches and blocks ---


def test_add_multiply_concat_residual_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    two = "[Linear: {out_features: 2, bias: false}]"  # with weights w: w * (sum of the row), twice
    add = fill(network(f"Add: [{two}, [], []]", (2,), (2,)), 10.0)
    assert add(x).tolist() == [[32.0, 34.0], [86.0, 90.0]]
    multiply = fill(network(f"Multiply: [{two}, []]", (2,), (2,)), 2.0)
    assert multiply(x).tolist() == [[6.0, 12.0], [48.0, 80.0]]
    concat = fill(network(f"Concat: [[], {two}]", (2,), (4,)), 1.0)
    assert concat(x).tolist() == [[1.0, 2.0, 3.0, 3.0], [3.0, 5.0, 8.0, 8.0]]
    residual = fill(network(f"Residual: {two}", (2,), (2,)), -1.0)
    assert residual(x).tolist() == [[-2.0, -1.0], [-5.0, -3.0]]
    one = "[Linear: {out_features: 1, bias: false}]"
    projected = f"Residual: {{layers: {one}, projection: {one}}}"
    assert fill(network(projected, (2,), (1,)), 1.0, 10.0)(x).tolist() == [[33.0], [88.0]]


def test_concat_along_another_dimension_and_stretched_products() -> None:
    rows = network("Concat: {branches: [[], []], dim: 2}", (2, 3), (2, 6))
    assert rows(torch.ones(1, 2, 3)).shape == (1, 2, 6)
    assert network("Concat: [[], []]", (2, 3), (2, 6), Concat__dim="2")(torch.ones(1, 2, 3)).shape == (1, 2, 6)
    gate = network("Multiply: [[], [AdaptiveAvgPool2d: 1]]", (2, 2, 2), (2, 2, 2))
    x = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert gate(x).flatten().tolist() == [0.0, 1.5, 3.0, 4.5, 22.0, 27.5, 33.0, 38.5]


BLOCKS = """blocks:
  Stage:
    parameters: {width: 16, p: 0.1}
    layers:
      - Linear: ${width * 2}
        name: inner
      - Dropout: ${p}
  Tower:
    parameters: {width: null}
    layers:
      - Stage: {width: "${width}"}
      - Residual: [Stage: {width: "${width}", p: 0.5}]
"""


def test_blocks_take_parameters_and_nest() -> None:
    built = network("Stage\nStage: 4\nTower: 3", (5,), (6,), BLOCKS)
    linears = [layer for layer in built.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linears] == [32, 8, 6, 6]
    assert [layer.p for layer in built.modules() if isinstance(layer, nn.Dropout)] == [0.1, 0.1, 0.1, 0.5]
    assert "layers.0.inner.weight" in built.state_dict()
    copy = parse_definition(to_yaml(built.definition))(
        NetworkContext("r", Port("vector", (5,)), Port("vector", (6,)), DataSpec("vector", (5,)))
    )
    assert copy.state_dict().keys() == built.state_dict().keys()


def test_parameters_of_a_block_stay_in_it() -> None:
    head = "constants: {width: 4}\n" + BLOCKS
    built = network("Stage: 8\nLinear: ${width}", (5,), (4,), head)
    assert (built.layers[0].inner.out_features, built.layers[1].out_features) == (16, 4)


def test_overrides_reach_blocks_names_and_types_the_name_being_stronger() -> None:
    built = network("Stage: 3\nLinear: 6", (5,), (6,), BLOCKS, Dropout__p="0.7", inner__bias="false", Linear__bias=True)
    assert built.layers[0][1].p == 0.7
    assert built.layers[0].inner.bias is None and built.layers[1].bias is not None
    assert network("Stage: 3", (5,), (10,), BLOCKS, Stage__width="5").layers[0].inner.out_features == 10


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("Dropout.q", "1", r"Dropout.q: no layer of N for vector data takes it; did you mean 'Dropout.p'\?"),
        ("Dropuot.p", "1", r"did you mean 'Dropout.p'\?"),
        ("p", "1", "p: no layer of N for vector data takes it"),
        ("Linear.in_features", "5", "Linear.in_features: no layer"),
        ("Dropout.p", "half", r"Dropout.p=half: n.yaml: layers\[1\] \(Dropout\): p expects float, not 'half'"),
        ("Dropout.p", "nan", "p expects float"),
        ("Linear.bias", "2", "bias expects true or false"),
        ("Linear.out_features", "0", "out_features must be above 0, not 0"),
        ("Dropout.p", "1.5", r"probability has to be between 0 and 1, but got 1.5 \(Dropout.p=1.5\)"),
    ],
)
def test_wrong_overrides_are_named(key: str, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        network("Linear: 4\nDropout: 0.2", (2,), (4,), **{key.replace(".", "__"): value})
    assert isinstance(caught.value, ConfigError) or value == "1.5"


# --- outputs and randomness ---


def test_probability_leaves_the_sigmoid_out_of_forward() -> None:
    built = fill(network("Linear: 1\nSigmoid", (2,), (1,), "outputs: probability\n", score=True), 1.0, 0.0)
    x = torch.tensor([[1.0, 2.0]])
    assert built(x).tolist() == [[3.0]]
    assert built.probability(x).item() == pytest.approx(0.9525741)
    assert built.outputs == "probability" and built.definition["outputs"] == "probability"
    assert built.definition["layers"][-1] == "Sigmoid"


@pytest.mark.parametrize("layers", ["Linear: 1\nSigmoid", "Linear: 1\nSequential: [ReLU, Sigmoid]\nFlatten"])
def test_scores_that_end_in_an_undeclared_sigmoid_are_refused(layers: str) -> None:
    with pytest.raises(NetworkError, match=r"ends in a Sigmoid, but scores are logits; declare 'outputs: probability'"):
        network(layers, (2,), (1,), score=True)
    assert network(layers, (2,), (1,)) is not None


def test_building_draws_only_what_initialisation_needs() -> None:
    before = torch.get_rng_state()
    network("Flatten\nReLU\nDropout: 0.5\nRReLU\nBatchNorm1d\nReshape: [2, 2]", (1, 2, 2), (2, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    built = network("Linear: 3\nDropout: 0.5\nLinear: 4", (2,), (4,))
    torch.manual_seed(3)
    first, second = nn.Linear(2, 3), nn.Linear(3, 4)
    assert torch.equal(built.layers[0].weight, first.weight) and torch.equal(built.layers[2].bias, second.bias)
    assert all(module.training for module in built.modules())


def test_building_does_not_touch_running_statistics() -> None:
    built = network("Linear: 4\nBatchNorm1d", (2,), (4,))
    assert built.layers[1].num_batches_tracked.item() == 0 and not built.layers[1].running_mean.any()


# --- errors ---


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("Linea: 3", r"n.yaml: layers\[0\] \(Linea\): unknown layer 'Linea'; did you mean 'Linear'\?"),
        ("Linear: 4\nEmbedding: 3", r"layers\[1\] \(Embedding\): unknown layer .* such as Linear"),
        ("Conv2d: {out_chanels: 3}", r"\(Conv2d\): unknown argument 'out_chanels'; did you mean 'out_channels'\?"),
        ("ReLU: {inplace: true}", "unknown argument 'inplace'; it takes none"),
        ("Tanh: 3", "takes no value, not 3"),
        ("Linear", "needs out_features"),
        ("Linear: ten", "out_features expects int, not 'ten'"),
        ("Linear: 1.5", "out_features expects int, not 1.5"),
        ("Linear: true", "out_features expects int, not True"),
        ("Linear: -3", "out_features must be above 0, not -3"),
        ("Dropout: 1.5", r"layers\[0\] \(Dropout\): .*between 0 and 1, but got 1.5"),
        ("Dropout: .nan", "p expects float, not nan"),
        ("Conv2d: {out_channels: 3, kernel_size: [3, 3, 3]}", "kernel_size expects int or 2 of int"),
        ("Conv2d: {out_channels: 3, kernel_size: 3, padding_mode: zero}", r"expects zeros\|reflect"),
        ("Conv2d: {out_channels: 3, kernel_size: 9}", r"\(Conv2d\): does not fit rows of shape \(1, 8, 8\)"),
        (
            "Linear: 5\nConv2d: {out_channels: 3, kernel_size: 1}",
            r"layers\[1\] .*needs rows of 3 dimensions, gets \(5,\)",
        ),
        ("Linear: {in_features: 3, out_features: 4}", r"does not fit rows of shape \(64,\)"),
        ("Linear: 5", r"gives rows of shape \(5,\), but the role 'r' wants \(4,\)"),
        ("Reshape: [7]", r"\(Reshape\): does not fit rows"),
        ("Flatten: 0", "mixes the rows of a batch"),
        ("Crop: [9, 9]", "cannot keep 9 of 8"),
        ("Add: [[], [Linear: 3]]", r"\(Add\): its branches do not fit together: \(1, 8, 8\) and \(3,\)"),
        ("Concat: [[], [Linear: 3]]", r"\(Concat\): its branches do not fit together"),
        ("Concat: {branches: [[], []], dim: 0}", "dim expects a whole number from 1 on"),
        ("Add: []", "expects a list of branches"),
        ("Add: [ReLU]", r"layers\[0\] \(Add\).branches\[0\]: expects a list of layers, not 'ReLU'"),
        ("Residual: [ReLU, Linear: 3]", r"\(1, 8, 8\) and \(3,\); give it a 'projection'"),
        (
            "Residual: [Add: [[], [Conv3d: 1]]]",
            r"layers\[0\] \(Residual\).layers\[0\] \(Add\).branches\[1\]\[0\] \(Conv3d\): ",
        ),
        ("ReLU:\n    spectral_norm: true", "spectral_norm needs a layer with a weight"),
        ("Linear: {out_features: 4, spectral_norm: true}", "'spectral_norm' stands beside"),
        ("Linear: 4\n    nam: x", "beside which only 'name' and 'spectral_norm' stand"),
        ("Linear: 4\n    name: 3", "name: expects one word"),
        ("Linear: 4\n    name: train", "name: 'train' has a meaning already"),
        ("Linear: 4\n    name: a\nLinear: 4\n    name: a", "the name 'a' is used twice"),
        (
            "Linear: ${output.sice}",
            r"layers\[0\] \(Linear\): unknown value 'output.sice' in .*did you mean 'output.size'",
        ),
        ("Linear: ${4} units", "must be the whole value"),
        ("3", "expects the name of a layer, not 3"),
    ],
)
def test_each_mistake_names_file_layer_and_what_is_wrong(layers: str, message: str) -> None:
    lines = layers.replace("\nLinear", "\n  - Linear").replace("\nConv2d", "\n  - Conv2d").replace("\nEmb", "\n  - Emb")
    text = f"{HEAD}layers:\n  - {lines}\n"
    data = DataSpec("image", (1, 8, 8))
    with pytest.raises(NetworkError, match=message) as caught:
        parse_definition(text, "n.yaml")(NetworkContext("r", Port("image", (1, 8, 8)), Port("vector", (4,)), data))
    assert str(caught.value).startswith("n.yaml: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "layers",
    [
        "Linear: ${100000 * 100000}",
        "Linear: 2147483649",
        "Linear: 2000000000",
        "Linear: 60000\n  - Linear: 60000",
        "Upsample: 100000",
        "Conv2d: {out_channels: 1, kernel_size: 3, padding: 100000}",
        "Conv2d: {out_channels: 1, kernel_size: 1000000000}",
        "ConvTranspose2d: {out_channels: 3, kernel_size: 3, stride: 10000}",
        "AdaptiveAvgPool2d: 100000",
        "\n  - ".join([f"Concat: [{', '.join(['[]'] * 300)}]"] * 3),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_allocated(layers: str) -> None:
    data = DataSpec("image", (1, 8, 8))
    with pytest.raises(NetworkError, match=r"beyond|more than|overflow"):
        parse_definition(f"{HEAD}layers:\n  - {layers}\n")(
            NetworkContext("r", Port("image", (1, 8, 8)), Port("vector", (4,)), data)
        )


def bomb(key: str) -> str:
    """Nine lists, each of ten aliases of the one before."""
    lists = [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    return "\n".join([f"{HEAD}{key}:", "  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", *lists])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: N\ndoc: d\nlayers:\n\t- ReLU", "n.yaml: line 4: a tab; YAML is indented with blanks"),
        ("name: N\nlayers: [", "n.yaml: line 2: "),
        (
            HEAD + "layers:\n  - {Linear: ${output.size}}",
            r"line 4: .*inside \{ \} and \[ \] write .* in quotation marks",
        ),
        (
            HEAD + "layers: !!python/object/apply:os.system [ls]",
            "line 3: the tag !!python/object/apply:os.system is refused",
        ),
        (HEAD + "layers: !own [ls]", "line 3: the tag !own is refused"),
        (HEAD + "name: M\nlayers: []", "line 3: the key 'name' is there twice"),
        ("", "a definition is a mapping"),
        ("[1]", "a definition is a mapping"),
        ("a: 1\n---\nb: 1", "another document"),
        ("a: \0", "not readable as YAML"),
        ("[" * 9999, "nested more than 40 deep"),
        (bomb("constants"), "more than 50000 values once its aliases are written out"),
        ("a: &a [*a]", r"alias \*a stands inside what it means"),
        ("x" * (2**20 + 1), "larger than 1 MiB"),
        (HEAD, "expects either 'layers' or 'variants'"),
        (HEAD + "layers: []\nvariants: {image: {layers: []}}", "expects either 'layers' or 'variants'"),
        (HEAD + "layer: []", "unknown key 'layer' in the definition; did you mean 'layers'"),
        (HEAD + "layers: ReLU", "layers: expects a list of layers, not 'ReLU'"),
        ("name: on\ndoc: d\nlayers: []", "name: expects a text, not True"),
        ("name: N\nlayers: []", "doc: expects a text, not None"),
        (HEAD + "variants: {table: {layers: []}}", "unknown key 'table' in the variants"),
        (HEAD + "variants: {image: {layer: []}}", "unknown key 'layer' in the variant image"),
        (HEAD + "variants: {image: {layers: [Foo]}}", r"variants.image.layers\[0\] \(Foo\): unknown layer"),
        (HEAD + "output_range: [1, -1]\nlayers: []", "output_range: expects two ascending numbers"),
        (HEAD + "outputs: logit\nlayers: []", "outputs: expects 'probability' or nothing"),
        (HEAD + "outputs: probability\nlayers: [ReLU]", "so the last layer must be Sigmoid"),
        (HEAD + "blocks: {Up: {layers: [Up]}}\nlayers: []", "blocks.Up: the block holds itself"),
        (
            HEAD + "blocks: {A: {layers: [B]}, B: {layers: [Add: [[A]]]}}\nlayers: []",
            "blocks.A: the block holds itself",
        ),
        (HEAD + "blocks: {ReLU: {layers: []}}\nlayers: []", "blocks.ReLU: there is a layer of that name"),
        (HEAD + "blocks: {Up: {layers: [], parameters: {width: 1}}}\nlayers: [Up: {widht: 1}]", "did you mean 'width'"),
        (HEAD + "constants: {max: 1}\nlayers: []", "constants: 'max' cannot be a name"),
    ],
)
def test_definitions_that_are_wrong_are_refused_when_read(text: str, message: str) -> None:
    with pytest.raises(NetworkError, match=message) as caught:
        parse_definition(text, "n.yaml")
    assert str(caught.value).startswith("n.yaml: ") and "\n" not in str(caught.value)


def test_what_only_a_context_shows_is_refused_then() -> None:
    text = (
        HEAD
        + "blocks: {Up: {parameters: {width: null}, layers: [Linear: '${width}']}}\nvariants: {vector: {layers: [Up]}}"
    )
    definition = parse_definition(text, "n.yaml")
    port = Port("vector", (2,))
    with pytest.raises(NetworkError, match=r"n.yaml: no variant for sequence data; there are: vector"):
        definition(NetworkContext("r", port, port, DataSpec("sequence", (3, 2))))
    with pytest.raises(
        NetworkError, match=r"variants.vector.layers\[0\] \(Up\): needs a value for its parameter 'width'"
    ):
        definition(NetworkContext("r", port, port, DataSpec("vector", (2,))))
    inner = parse_definition(text.replace("[Up]", "[Up: x]"), "n.yaml")
    with pytest.raises(
        NetworkError, match=r"layers\[0\] \(Up\) > blocks.Up.layers\[0\] \(Linear\): out_features expects int"
    ):
        inner(NetworkContext("r", port, port, DataSpec("vector", (2,))))


def test_many_blocks_that_multiply_are_refused() -> None:
    blocks = "".join(f"  B{i}: {{layers: [{', '.join([f'B{i - 1}'] * 10)}]}}\n" for i in range(1, 9))
    with pytest.raises(NetworkError, match="more than 10000 layers"):
        network("B8", (2,), (2,), f"blocks:\n  B0: {{layers: [Identity]}}\n{blocks}")


def test_files_are_loaded_and_missing_or_odd_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(HEAD + "aliases: [M]\nlayers: [Linear: 3]\n")
    definition = load_definition(path)
    assert (definition.name, definition.doc, definition.aliases) == ("N", "A test.", ("M",))
    with pytest.raises(NetworkError, match=r"none\.yaml: there is no such file"):
        load_definition(tmp_path / "none.yaml")
    with pytest.raises(NetworkError, match="there is no such file"):
        load_definition(tmp_path)
    path.write_bytes(b"name: \xff")
    with pytest.raises(NetworkError, match=r"net\.yaml: byte 6 is not UTF-8 text"):
        load_definition(path)
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(NetworkError, match="larger than 1 MiB"):
        load_definition(path)
