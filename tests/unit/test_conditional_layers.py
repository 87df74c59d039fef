"""Layers that are told labels, and self-attention: against torch and sums written out; in the residual players."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.core.errors import UserError
from twoplayer.networks.resnet import ResnetDiscriminator, ResnetGenerator
from twoplayer.ops.class_projection import ClassProjection
from twoplayer.ops.conditional_batch_norm import ConditionalBatchNorm
from twoplayer.ops.self_attention import SelfAttention


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def stirred(module: nn.Module) -> nn.Module:
    """The module in float64 with no parameter at its beginning."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double()


def test_the_projection_is_the_inner_product_with_the_vector_of_the_class() -> None:
    layer = ClassProjection(2, 3).double()
    with torch.no_grad():
        layer.vectors.weight.copy_(torch.tensor([[1.0, 10.0, -1.0], [2.0, 20.0, 0.5]]))  # a column for each class
    features = torch.tensor([[3.0, 4.0], [0.5, 0.25], [2.0, 2.0]], dtype=torch.float64)
    found = layer(features, torch.tensor([0, 1, 2]))
    assert found.tolist() == [3.0 + 8.0, 5.0 + 5.0, -2.0 + 1.0]


def test_the_vectors_begin_with_length_1_on_average() -> None:
    lengths = ClassProjection(64, 1000).vectors.weight.square().sum(0)
    assert lengths.mean().item() == pytest.approx(1.0, rel=0.02)


def test_a_projection_discriminator_adds_both_terms() -> None:
    module = stirred(ResnetDiscriminator(n_filters=4, conditional=True).build((1, 8, 8), 3))
    images, labels = normal(4, 1, 8, 8), torch.tensor([2, 0, 1, 2])
    verdict = module(images, labels=labels)
    for n in range(4):
        alone = module.to_logit.bias + module.to_logit.weight[0] @ verdict.features[n]
        told = module.projection.vectors.weight[:, labels[n]] @ verdict.features[n]
        torch.testing.assert_close(verdict.logits[n], (alone + told)[0])


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
def test_conditional_normalization_is_torchs_with_the_weights_of_each_class(shape: tuple[int, ...]) -> None:
    """One set of statistics for the whole batch; scale and shift class by class."""
    layer = stirred(ConditionalBatchNorm(3, 2, epsilon=1e-5))
    images, labels = normal(*shape), torch.tensor([0, 1, 1, 0, 1, 1])
    found = layer(images, labels=labels)
    for label in (0, 1):
        whole = F.batch_norm(images, None, None, layer.weight[label], layer.bias[label], training=True, eps=1e-5)
        torch.testing.assert_close(found[labels == label], whole[labels == label])


def test_conditional_normalization_in_evaluation_mode_has_running_statistics() -> None:
    layer = stirred(ConditionalBatchNorm(3, 2, momentum=1.0))
    seen, images, labels = normal(50, 3, 4, 4), normal(2, 3, 4, 4), torch.tensor([1, 0])
    layer(seen, labels=torch.zeros(50, dtype=torch.int64))
    found = layer.eval()(images, labels=labels)
    mean, variance = seen.mean((0, 2, 3)), seen.var((0, 2, 3), correction=0)
    for n, label in enumerate(labels):
        scale, shift = layer.weight[label], layer.bias[label]
        expected = (images[n].movedim(0, -1) - mean) / (variance + 1e-5).sqrt() * scale + shift
        torch.testing.assert_close(found[n].movedim(0, -1), expected)


def test_conditional_normalization_begins_alike_for_all_classes() -> None:
    layer, images = ConditionalBatchNorm(3, 5), torch.randn(4, 3, 2, 2)
    expected = F.batch_norm(images, None, None, training=True)
    torch.testing.assert_close(layer(images, labels=torch.tensor([0, 4, 2, 2])), expected)


def test_self_attention_is_scaled_dot_product_attention_with_scale_1() -> None:
    layer, images = stirred(SelfAttention(16, reduction=4)), normal(2, 16, 3, 5)

    def places(convolution: nn.Conv2d) -> Tensor:
        return torch.einsum("oi,nihw->nhwo", convolution.weight[:, :, 0, 0], images).flatten(1, 2)

    query, key, value = places(layer.query), places(layer.key), places(layer.value)
    taken = F.scaled_dot_product_attention(query, key, value, scale=1.0)
    back = (taken @ layer.output.weight[:, :, 0, 0].t()).transpose(1, 2).unflatten(2, (3, 5))
    torch.testing.assert_close(layer(images), images + layer.gamma * back)


def test_self_attention_begins_as_the_identity_and_learns() -> None:
    layer, images = SelfAttention(16), torch.randn(2, 16, 4, 4)
    assert torch.equal(layer(images), images)
    layer(images).square().sum().backward()
    assert layer.gamma.grad is not None
    assert layer.gamma.grad.abs() > 0


def test_self_attention_can_be_differentiated_twice() -> None:
    layer = stirred(SelfAttention(4, reduction=2))
    assert torch.autograd.gradgradcheck(layer, normal(1, 4, 2, 2).requires_grad_())


@pytest.mark.parametrize("side", [4, 7, 14, 28])
def test_where_the_generator_attends(side: int) -> None:
    module = ResnetGenerator(n_filters=8, attention_side=side).build(5, (1, 28, 28), 0)
    assert_attends_at(module, torch.randn(2, 5), side)


@pytest.mark.parametrize("side", [14, 7, 4])
def test_where_the_discriminator_attends(side: int) -> None:
    module = ResnetDiscriminator(n_filters=8, n_halvings=3, attention_side=side).build((1, 28, 28), 0)
    assert_attends_at(module, torch.randn(2, 1, 28, 28), side)


def assert_attends_at(module: nn.Module, inputs: Tensor, side: int) -> None:
    (layer,) = (layer for layer in module.modules() if isinstance(layer, SelfAttention))
    seen: list[tuple[int, ...]] = []
    layer.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape)))
    module(inputs)
    assert seen == [(2, 8, side, side)]


def test_maps_that_are_not_there_are_refused_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"generator\.attention_side=5.*4, 7, 14, 28$"):
        ResnetGenerator(attention_side=5).build(5, (1, 28, 28), 0)
    with pytest.raises(UserError, match=r"discriminator\.attention_side=28.*14, 7$"):
        ResnetDiscriminator(attention_side=28).build((1, 28, 28), 0)


def test_residual_players_hear_labels_with_every_parameter() -> None:
    labels = torch.arange(3)
    generator = stirred(ResnetGenerator(n_filters=4, conditional=True, attention_side=4).build(5, (1, 8, 8), 3))
    discriminator = stirred(ResnetDiscriminator(n_filters=8, conditional=True, attention_side=4).build((1, 8, 8), 3))
    images = generator(normal(1, 5).expand(3, 5), labels=labels)
    assert not torch.allclose(images[0], images[1])
    (discriminator(images, labels=labels).logits * normal(3)).sum().backward()
    for name, parameter in (*generator.named_parameters(), *discriminator.named_parameters()):
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_weights_of_unconditional_residual_players_keep_their_names() -> None:
    """Checkpoints from before these options existed load."""
    generator = ResnetGenerator(n_filters=4).build(5, (1, 8, 8), 0)
    discriminator = ResnetDiscriminator(n_filters=4).build((1, 8, 8), 0)
    assert {"0.weight", "2.branch.0.running_mean", "2.branch.6.weight", "5.bias"} <= generator.state_dict().keys()
    assert {name.split(".")[0] for name in discriminator.state_dict()} == {"blocks", "to_logit"}
