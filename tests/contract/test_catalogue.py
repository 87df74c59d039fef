"""Laws that every piece in the catalogue keeps. A new piece is tested here the moment its file exists."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import twoplayer.recipes.schema  # noqa: F401 - fills the catalogue
from twoplayer.core.augmentation import Augmentation
from twoplayer.core.batch import Batch
from twoplayer.core.catalogue import Component, components, discover
from twoplayer.core.conditioned import Conditioned, conditioned
from twoplayer.core.errors import UserError
from twoplayer.core.metric import Metric, badness
from twoplayer.core.observed import Observed
from twoplayer.core.protocols import (
    ClassLoss,
    DiscriminatorNetwork,
    DiscriminatorPenalty,
    GeneratorNetwork,
    Latents,
    NeedsPreparation,
    Objective,
    OptimizerRule,
    ParameterPenalty,
    Probabilistic,
    Projection,
    Regularizer,
    Reparametrization,
    SeparableObjective,
    Supervised,
)
from twoplayer.core.rng import Stream
from twoplayer.core.schedule import Moment, ValueSchedule, is_number
from twoplayer.core.verdict import Verdict
from twoplayer.data.source import Source
from twoplayer.ops.gaussian_noise import GaussianNoise

discover("twoplayer.metrics")
discover("twoplayer.data")

SHAPES = [(1, 8, 8), (3, 12, 10), (1, 28, 28)]
N, LATENT_DIM, CLASSES = 4, 6, 10


def each(base: type[Component]) -> list[type[Component]]:
    """Of the package: other tests have pieces of their own."""
    return [piece for piece in components(base).values() if piece.__module__.startswith("twoplayer.")]


def verdicts() -> tuple[Verdict, Verdict]:
    """Of an undecided D. Logits are near 0.5, from where every objective pulls both ways, targets of 0 and 1 too."""
    draw = torch.Generator().manual_seed(0)

    def verdict() -> Verdict:
        logits = (0.5 + 0.1 * torch.randn(N, generator=draw)).requires_grad_()
        features = torch.randn(N, 5, generator=draw).requires_grad_()
        return Verdict(logits, features, torch.randn(N, CLASSES, generator=draw).requires_grad_())

    return verdict(), verdict()


def linear_judge(slope: Tensor) -> nn.Module:
    """D(x) = <slope, x>: its input gradient is `slope` everywhere."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(slope.clone())

        def forward(self, images: Tensor) -> Verdict:
            return Verdict((images * self.slope).flatten(1).sum(1), images.flatten(1))

    return Linear()


def built(config: Component, shape: tuple[int, int, int]) -> nn.Module:
    """The network, prepared where it asks for that, with labels and coarse images of N pictures filled in."""
    torch.manual_seed(0)
    if isinstance(config, GeneratorNetwork):
        network = config.build(latent_dim(config, shape), shape, CLASSES)
        typical = torch.randn(64, latent_dim(config, shape))
    else:
        assert isinstance(config, DiscriminatorNetwork)
        network, typical = config.build(shape, CLASSES), torch.rand(64, *shape) * 2 - 1
    if isinstance(network, NeedsPreparation):
        network.prepare(typical[: network.preparation_size])
    everything = Batch(torch.empty(N, *shape), torch.arange(N), torch.rand(N, *shape) * 2 - 1)
    return conditioned(network, everything.given(config.takes))


def latent_dim(config: GeneratorNetwork, shape: tuple[int, int, int]) -> int:
    return config.latents_for(shape) or LATENT_DIM


def test_every_kind_is_there() -> None:
    pieces = (Objective, Regularizer, Augmentation, Latents, OptimizerRule, ValueSchedule, Metric, Source)
    for kind in (GeneratorNetwork, DiscriminatorNetwork, *pieces):
        assert each(kind), kind


@pytest.mark.parametrize(
    "piece", [p for kind in (Objective, Regularizer, Augmentation, Latents, OptimizerRule, Metric) for p in each(kind)]
)
def test_a_piece_is_its_own_configuration(piece: type[Component]) -> None:
    config = piece()
    assert piece.model_validate(config.model_dump()) == config
    assert piece.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"
    with pytest.raises(ValueError, match="extra"):
        piece(no_such_setting=1)
    for name, field in piece.model_fields.items():
        if is_number(field.annotation):
            negative = [-1.0] if field.metadata else []  # a number without bounds may have either sign
            for bad in (float("nan"), float("inf"), *negative, "1"):
                with pytest.raises(ValueError, match=name):
                    piece(**{name: bad})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("piece", each(GeneratorNetwork))
def test_generator(piece: type[GeneratorNetwork], shape: tuple[int, int, int]) -> None:
    module = built(piece(), shape)
    z = torch.randn(N, latent_dim(piece(), shape))
    images = module(z)
    assert images.shape == (N, *shape)
    assert images.isfinite().all()
    if "condition" not in piece().takes:  # what adds to a condition may go a little beyond it
        assert images.abs().max() <= 1.0
    weights = torch.randn_like(images)
    assert_every_parameter_learns_soon(module, lambda: (module(z) * weights).sum())
    assert torch.equal(module.eval()(z), module(z)), "evaluation mode is deterministic"
    assert_single_images_agree(module, z)
    assert_state_round_trip(module, built(piece(), shape), z)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("piece", each(DiscriminatorNetwork))
def test_discriminator(piece: type[DiscriminatorNetwork], shape: tuple[int, int, int]) -> None:
    module = built(piece(), shape)
    images = torch.rand(N, *shape) * 2 - 1
    verdict = module(images)
    assert verdict.logits.shape == (N,)
    assert verdict.features is not None
    assert verdict.features.ndim == 2
    assert len(verdict.features) == N
    assert verdict.logits.isfinite().all()
    weights = torch.tensor([1.0, -2.0, 3.0, -4.0])
    assert_every_parameter_learns_soon(module, lambda: (module(images).logits * weights).sum())
    logits = lambda: module(images).logits  # noqa: E731
    module.eval()
    assert torch.equal(logits(), logits()), "evaluation mode is deterministic"
    twin = built(piece(), shape)
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin.eval()(images).logits, logits())


@pytest.mark.parametrize("piece", each(DiscriminatorNetwork))
def test_who_says_to_judge_alone_does(piece: type[DiscriminatorNetwork]) -> None:
    """Joining two batches into one pass may change nothing in training mode, random layers aside."""
    if not piece().judges_alone or piece().takes:
        pytest.skip("it is not judged in one pass")
    module = built(piece(), (1, 8, 8)).train()
    for layer in module.modules():
        if isinstance(layer, nn.Dropout | GaussianNoise):
            layer.eval()
    images = torch.rand(N, 1, 8, 8) * 2 - 1
    apart = torch.cat([module(half).logits for half in images.split(N // 2)])
    torch.testing.assert_close(module(images).logits, apart)


def assert_every_parameter_learns(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, f"{name} gets no gradient"


def assert_every_parameter_learns_soon(module: nn.Module, loss: Callable[[], Tensor]) -> None:
    """At once; where a layer's weights begin at zero, behind which nothing learns, when those have moved."""
    loss().backward()
    zeros = [each for each in module.parameters() if each.ndim > 1 and not each.any() and each.grad is not None]
    if zeros:
        with torch.no_grad():
            for weight in zeros:
                weight -= 0.01 * nn.functional.normalize(weight.grad, dim=None)
        module.zero_grad()
        loss().backward()
    assert_every_parameter_learns(module)


def assert_single_images_agree(module: nn.Module, z: Tensor) -> None:
    """In evaluation mode a picture does not depend on the rest of its batch."""
    network, given = (module.network, module.given) if isinstance(module, Conditioned) else (module, {})
    rows = [{name: values[i : i + 1] for name, values in given.items()} for i in range(len(z))]
    alone = torch.cat([network(z[i : i + 1], **row) for i, row in enumerate(rows)])
    torch.testing.assert_close(alone, module(z), rtol=1e-4, atol=1e-5)


def assert_state_round_trip(module: nn.Module, twin: nn.Module, z: Tensor) -> None:
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin.eval()(z), module(z))


@pytest.mark.parametrize("piece", each(Objective))
def test_objective(piece: type[Objective]) -> None:
    assert_objective_keeps_its_laws(piece)


def assert_objective_keeps_its_laws(piece: type[Objective]) -> None:
    objective = piece()
    real, fake = verdicts()
    for loss, player in (
        (objective.discriminator_loss(real, fake), "discriminator"),
        (objective.generator_loss(real, fake), "generator"),
    ):
        assert loss.shape == (N,), player
        assert loss.isfinite().all(), player
    slope_real, slope_fake = torch.autograd.grad(
        objective.discriminator_loss(real, fake).sum(), (real.logits, fake.logits)
    )
    assert (slope_real < 0).all(), "D gains by raising logits of reals"
    assert (slope_fake > 0).all(), "D gains by lowering logits of fakes"
    if objective.generator_judges_real:
        assert_generator_moves_toward_the_reals(objective, real, fake)
    else:
        (slope,) = torch.autograd.grad(objective.generator_loss(real, fake).sum(), fake.logits)
        assert (slope < 0).all(), "G gains by raising logits of fakes"
    huge = Verdict(torch.full((N,), 1e4), real.features), Verdict(torch.full((N,), -1e4), fake.features)
    if isinstance(objective, Supervised):
        labels = torch.arange(N)
        assert real.class_logits is not None
        (slope,) = torch.autograd.grad(objective.labeled_loss(real, labels).sum(), real.class_logits)
        assert (slope[labels, labels] < 0).all(), "D gains by raising the logit of the right class"
    assert objective.at(Stream(0)) == objective.at(Stream(0)), "the random choices of a place are always the same"
    assert objective.discriminator_loss(*huge).isfinite().all()
    assert objective.generator_loss(*huge[::-1]).isfinite().all()
    if isinstance(objective, SeparableObjective):
        parts = objective.real_loss(real) + objective.fake_loss(fake)
        torch.testing.assert_close(parts, objective.discriminator_loss(real, fake))
    if isinstance(objective, Probabilistic):
        believed = objective.probability(real)
        assert ((believed > 0) & (believed < 1)).all()


def assert_generator_moves_toward_the_reals(objective: Objective, real: Verdict, fake: Verdict) -> None:
    """A small step of the fakes' features or logits downhill lowers G's loss, which is 0 on equal verdicts."""
    loss = objective.generator_loss(real, fake).mean()
    assert fake.features is not None
    slopes = torch.autograd.grad(loss, (fake.logits, fake.features), allow_unused=True)
    moved = [
        part if slope is None else part - 1e-2 * slope
        for part, slope in zip((fake.logits, fake.features), slopes, strict=True)
    ]
    assert objective.generator_loss(real, Verdict(moved[0], moved[1])).mean() < loss


@pytest.mark.parametrize("piece", each(Regularizer))
def test_regularizer(piece: type[Regularizer]) -> None:
    regularizer = piece()
    doing = DiscriminatorPenalty | ParameterPenalty | Projection | Reparametrization | ClassLoss
    assert isinstance(regularizer, doing), "it does something"
    judge = linear_judge(torch.full((1, 4, 4), 0.7))
    if isinstance(regularizer, ParameterPenalty):
        memory = regularizer.memory(judge)
        assert regularizer.parameter_penalty(judge, memory) == 0, "the past begins with the present"
        nn.init.zeros_(judge.slope)
        cost = regularizer.parameter_penalty(judge, memory)
        assert cost > 0
        cost.backward()
        assert_every_parameter_learns(judge)
        before = {name: value.clone() for name, value in memory.state_dict().items()}
        regularizer.update(judge, memory)
        assert any(not torch.equal(before[name], value) for name, value in memory.state_dict().items())
    if isinstance(regularizer, Reparametrization):
        network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 1))
        regularizer.attach(network)
        network(torch.randn(N, 1, 4, 4)).sum().backward()
        assert_every_parameter_learns(network)
    if isinstance(regularizer, DiscriminatorPenalty):
        real, fake = Batch(torch.randn(N, 1, 4, 4)), torch.randn(N, 1, 4, 4)
        cost = regularizer.discriminator_penalty(judge, real, fake, Stream(0))
        assert cost.shape == (N,)
        assert cost.isfinite().all()
        assert (cost >= 0).all()
        cost.sum().backward()
        assert_every_parameter_learns(judge)
        again = regularizer.discriminator_penalty(judge, real, fake, Stream(0))
        assert torch.equal(again, cost), "the same stream gives the same penalty"
    if isinstance(regularizer, ClassLoss):
        assert_classes_are_learned(regularizer)
    if isinstance(regularizer, Projection):
        regularizer.project(judge)
        once = [parameter.clone() for parameter in judge.parameters()]
        regularizer.project(judge)
        assert all(torch.equal(a, b) for a, b in zip(once, judge.parameters(), strict=True)), "projecting twice is once"


def assert_classes_are_learned(rule: ClassLoss) -> None:
    """Both players gain by raising the logit of the right class; logits of reality are left alone."""
    (real, fake), labels = verdicts(), torch.arange(N)
    for cost, seen in (
        (rule.discriminator_class_loss(real, fake, labels), real),
        (rule.generator_class_loss(fake, labels), fake),
    ):
        assert cost.shape == (N,)
        assert (cost >= 0).all()
        assert seen.class_logits is not None
        slopes = torch.autograd.grad(cost.sum(), (seen.class_logits, seen.logits), allow_unused=True)
        assert (slopes[0][labels, labels] < 0).all()
        assert slopes[1] is None


@pytest.mark.parametrize("shape", [*SHAPES, (2, 1, 1)])
@pytest.mark.parametrize("piece", each(Augmentation))
def test_augmentation(piece: type[Augmentation], shape: tuple[int, int, int]) -> None:
    """Changes hang on the stream and the image alone, are new for each image and stream, and can be learned through."""
    module, images = changing(piece), torch.rand(16, *shape) * 2 - 1
    changed = module(images, Stream(0))
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert changed.isfinite().all()
    assert torch.equal(changed, module(images, Stream(0)))
    assert not torch.equal(changed, module(images, Stream(1)))
    same = module(images[:1].expand(16, *shape).contiguous(), Stream(0))
    assert (same != same[:1]).flatten(1).any(1).any(), "each image has draws of its own"
    images.requires_grad_()
    (slope,) = torch.autograd.grad(module(images, Stream(0)).square().sum(), images, create_graph=True)
    assert (slope != 0).flatten(1).any(1).float().mean() > 0.5, "a gradient reaches the images"
    (second,) = torch.autograd.grad(slope.square().sum(), images)
    assert second.isfinite().all(), "and can be differentiated again"
    twin = piece().build()
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin(images, Stream(0)), changed)


def changing(piece: type[Augmentation]) -> nn.Module:
    """One that does something from the beginning."""
    return piece.model_validate({"start": 0.8} if "start" in piece.model_fields else {}).build()


@pytest.mark.parametrize("piece", each(Latents))
def test_latents(piece: type[Latents]) -> None:
    latents = piece(dim=3)
    z = latents.draw(10_000, Stream(0))
    assert z.shape == (10_000, 3)
    assert z.mean().abs() < 0.02
    assert torch.equal(z, latents.draw(10_000, Stream(0)))
    assert not torch.equal(z, latents.draw(10_000, Stream(1)))
    assert latents.draw(2, Stream(0), torch.empty(0, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("piece", each(ValueSchedule))
def test_schedule_goes_from_start_to_end_and_stays(piece: type[ValueSchedule]) -> None:
    there, share = piece(start=3.0, end=1.0, kimg=40.0), piece(start=3.0, end=1.0, share=0.4)
    assert piece.model_validate(there.model_dump()) == there
    assert piece.model_validate_json(share.model_dump_json()) == share
    moments = [Moment(kimg, 100.0) for kimg in range(101)]
    values = [there.at(moment) for moment in moments]
    assert values == [share.at(moment) for moment in moments]
    assert values[0] == 3.0
    assert values[40:] == [1.0] * 61
    assert all(before >= after for before, after in pairwise(values)), "it never turns back"
    assert [there.scaled(2.0).at(moment) for moment in moments] == pytest.approx([2.0 * value for value in values])
    assert [there.is_over(moment) for moment in moments] == [False] * 40 + [True] * 61
    with pytest.raises(ValueError, match="either kimg or share"):
        piece(start=3.0, end=1.0)


@pytest.mark.parametrize("piece", each(OptimizerRule))
def test_optimizer_that_is_tuned_to_its_own_numbers_stays_as_it_is(piece: type[OptimizerRule]) -> None:
    rule, learned = piece(), [nn.Parameter(torch.zeros(3))]
    optimizer, alone = rule.build(learned), rule.build([nn.Parameter(torch.zeros(3))])
    rule.tune(optimizer)
    assert optimizer.state_dict() == alone.state_dict()


@pytest.mark.parametrize("piece", each(OptimizerRule))
def test_optimizer_goes_downhill_and_resumes(piece: type[OptimizerRule]) -> None:
    def bowl(weight: nn.Parameter) -> Tensor:
        return (weight - 1.0).square().sum()

    def steps(weight: nn.Parameter, optimizer: torch.optim.Optimizer, n: int) -> None:
        for _ in range(n):
            optimizer.zero_grad()
            bowl(weight).backward()
            optimizer.step()

    rule = piece()
    whole = nn.Parameter(torch.zeros(3))
    steps(whole, rule.build([whole]), 20)
    assert bowl(whole) < 3.0

    half = nn.Parameter(torch.zeros(3))
    first = rule.build([half])
    steps(half, first, 10)
    second = rule.build([half])
    second.load_state_dict(first.state_dict())
    steps(half, second, 10)
    assert torch.equal(half, whole)


def seen(n: int, seed: int, like_real: bool = True) -> Observed:
    """Images of four classes; those unlike the real ones are bright, of one class, and not the one asked for."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (n,), generator=draw)
    certain = nn.functional.one_hot(labels if like_real else torch.zeros_like(labels), 4) * (4.0 if like_real else 0.5)
    features = torch.randn(n, 5, generator=draw) + (0.0 if like_real else 4.0)
    pixels = torch.randint(0 if like_real else 128, 256, (n, 1, 4, 4), generator=draw, dtype=torch.uint8)
    return Observed(pixels, features, certain.softmax(1), labels)


@pytest.mark.parametrize("piece", each(Metric))
def test_metric_ranks_its_figures(piece: type[Metric]) -> None:
    metric = piece()
    assert metric.better.keys().isdisjoint(metric.deviations)
    assert set(metric.deviations.values()) <= metric.better.keys()
    real, good, bad = seen(300, 0), seen(300, 1), seen(300, 2, like_real=False)
    of_good, of_bad = (metric.measure(real, fake, Stream(0)) for fake in (good, bad))
    assert of_good.keys() == of_bad.keys() == metric.better.keys() | metric.deviations.keys()
    for name, value in of_good.items():
        assert isinstance(value, float), name
        assert math.isfinite(value), name
    for name, better in metric.better.items():
        assert badness(better, of_good[name]) < badness(better, of_bad[name]), name
    assert metric.measure(real, good, Stream(0)) == of_good, "the same stream gives the same figures"
    if metric.of_fakes_only:
        assert metric.measure(Observed(), good, Stream(0)) == of_good


@pytest.mark.parametrize("size", [1, 7, 299])
@pytest.mark.parametrize("piece", each(Metric))
def test_metric_does_not_depend_on_how_images_come(piece: type[Metric], size: int) -> None:
    metric, (real, fake) = piece(), (seen(300, 0), seen(250, 1))
    measurement = metric.start()
    if metric.of_fakes_only:
        real = Observed(pixels=real.pixels)  # all the same to it
    for start in range(0, 300, size):
        measurement.update(fake[start : start + size], real=False)
        measurement.update(real[start : start + size], real=True)
    at_once = metric.measure(real, fake, Stream(0))
    assert measurement.compute(Stream(0)) == pytest.approx(at_once, rel=1e-10)
    assert measurement.compute(Stream(0)) == pytest.approx(at_once, rel=1e-10), "computing changes nothing"


@pytest.mark.parametrize("piece", each(Metric))
def test_metric_says_when_there_are_too_few_images(piece: type[Metric]) -> None:
    metric = piece()
    assert set(metric.needs) <= {field.name for field in fields(Observed)}
    with pytest.raises(UserError, match=f"^{metric.name} needs at least"):
        metric.start().compute(Stream(0))
    for real, fake in ((Observed(), seen(300, 0)), (seen(300, 0), Observed())):
        if len(fake) and metric.of_fakes_only:
            continue
        with pytest.raises(UserError, match=f"^{metric.name} needs at least"):
            metric.measure(real, fake, Stream(0))


@pytest.mark.parametrize("piece", each(Source))
def test_source_says_how_it_is_written_and_leaves_other_texts_alone(piece: type[Source]) -> None:
    assert piece.syntax
    assert piece.parse("neither a name nor a place") is None


def pieces() -> Iterator[type[Component]]:
    for kind in (
        GeneratorNetwork,
        DiscriminatorNetwork,
        Objective,
        Regularizer,
        Latents,
        OptimizerRule,
        Metric,
        Source,
    ):
        yield from each(kind)


@pytest.mark.parametrize("piece", list(pieces()))
def test_piece_is_documented(piece: type[Component]) -> None:
    assert piece.__doc__
    module = __import__(piece.__module__, fromlist=["_"])
    assert module.__doc__, piece.__module__
