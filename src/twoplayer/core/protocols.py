"""The kinds of pieces, and what a step may ask of each.

Objectives and penalties return one number per image, [N]; only the step reduces them to a scalar. A capability that
only some pieces have is a protocol here, tested once with `isinstance`, never a branch on a name.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal, Protocol, Self, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer

from twoplayer.core.batch import Batch
from twoplayer.core.catalogue import Component
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict

ImageShape = tuple[int, int, int]
"""Channels, height, width."""

Judge = Callable[[Tensor], Verdict]
"""A discriminator: images [N, C, H, W] in [-1, 1] to a verdict."""


Given = Literal["labels", "condition"]
"""What a conditional network is told beside latents or images; the name of the keyword its module is called with."""


class GeneratorNetwork(Component):
    """Hyper-parameters of a generator."""

    kind = "generator"

    @property
    def takes(self) -> tuple[Given, ...]:
        """The keywords that the built module needs: `labels` int64 [N], `condition` float [N, ...]."""
        return ()

    def latents_for(self, image_shape: ImageShape) -> int | None:
        """The only number of latents that such images can be made from; None where any number will do."""
        return None

    @abstractmethod
    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """A freshly initialized module: latents [N, latent_dim] to images [N, C, H, W] in [-1, 1]."""


class DiscriminatorNetwork(Component):
    """Hyper-parameters of a discriminator."""

    kind = "discriminator"

    @property
    def takes(self) -> tuple[Given, ...]:
        """The keywords that the built module needs: `labels` int64 [N], `condition` float [N, ...]."""
        return ()

    @property
    def judges_alone(self) -> bool:
        """Whether, in training mode too, no image's verdict depends on the rest of its batch.

        Then several batches may be judged in one pass, which is faster.
        """
        return False

    @property
    def names_classes(self) -> bool:
        """Whether the built module's verdicts have `class_logits`."""
        return False

    @abstractmethod
    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """A freshly initialized module: images [N, C, H, W] in [-1, 1] to a `Verdict`."""


@runtime_checkable
class Chained(Protocol):
    """A network that is its layers one after another, which allows for faster steps (see `ops/chains`)."""

    def chain(self) -> Sequence[nn.Module] | None:
        """The layers in their order; None where the module, as it was configured, does more than that.

        What the last layer makes, flattened, is what D says of each image, [N]; what it is given are the features.
        """


@runtime_checkable
class NeedsPreparation(Protocol):
    """A network that looks at typical inputs once, before training.

    Attributes:
        preparation_size: how many inputs it wants to see.
    """

    preparation_size: int

    def prepare(self, inputs: Tensor) -> None:
        """Set itself up from inputs: latents [M, latent_dim] for a generator, real images for a discriminator."""


@runtime_checkable
class Couples(Protocol):
    """A layer, objective or regularizer that, in training, looks at several images of a batch together.

    Attributes:
        coupled_images: at how many neighbors; None for all images of the batch.
    """

    coupled_images: int | None


class Latents(Component):
    """The distribution of z."""

    kind = "latents"
    dim: int

    @abstractmethod
    def draw(self, n: int, stream: Stream, like: Tensor | None = None) -> Tensor:
        """n latents [n, dim] from a stream."""


@runtime_checkable
class Bounded(Protocol):
    """A distribution outside whose range there are no latents.

    Attributes:
        low: smallest value.
        high: bound above all values.
    """

    low: float
    high: float


class Objective(Component):
    """The game: what each player minimizes."""

    kind = "objective"
    generator_judges_real: ClassVar[bool] = False
    """Whether `generator_loss` reads D's verdict on real images at D's present parameters."""
    generator_fools: ClassVar[bool] = True
    """Whether G is after D's verdict on its fakes. Where it is not, a D that is sure of itself does no harm."""
    compares_pairs: ClassVar[bool] = False
    """Whether losses are -log of the probability that a real image, for G a fake, is the more real one of a pair."""

    @property
    def zero_sum(self) -> bool:
        """Whether G's loss on a fake is minus D's, up to what does not depend on the fake."""
        return False

    def at(self, stream: Stream) -> Self:
        """The same game with the random choices of one update made; itself where it makes none."""
        return self

    @abstractmethod
    def discriminator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        """D's loss per pair of a real and a fake image, [N]."""

    @abstractmethod
    def generator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        """G's loss per fake image, [N]. `real` is stale unless `generator_judges_real`."""


class SeparableObjective(Objective):
    """An objective whose D loss is a part on real images plus a part on fakes; both are logged."""

    @abstractmethod
    def real_loss(self, real: Verdict) -> Tensor:
        """D's loss on real images, [N]."""

    @abstractmethod
    def fake_loss(self, fake: Verdict) -> Tensor:
        """D's loss on fakes, [N]."""

    def discriminator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        return self.real_loss(real) + self.fake_loss(fake)


@runtime_checkable
class Supervised(Protocol):
    """An objective that also teaches D the classes of the few images whose labels are known."""

    def labeled_loss(self, verdict: Verdict, labels: Tensor) -> Tensor:
        """D's loss on labeled images, [N]; labels: int64 [N]."""


@runtime_checkable
class Probabilistic(Protocol):
    """An objective under which D's logits are log-odds, so that scores in [0, 1] exist."""

    def probability(self, verdict: Verdict) -> Tensor:
        """D's probability that each image is real, [N]."""


class Regularizer(Component):
    """An extra term or constraint; what it can do is said by the protocols below."""

    kind = "regularizer"


@runtime_checkable
class DiscriminatorPenalty(Protocol):
    """A regularizer that adds to D's loss."""

    name: str

    def discriminator_penalty(self, judge: nn.Module, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """The weighted penalty per image, [N], with a graph to D's parameters; fake: [N, C, H, W]."""


@runtime_checkable
class SlopePenalty(DiscriminatorPenalty, Protocol):
    """A penalty that looks at D only through its slope, the gradient of each image's logit with respect to it.

    Attributes:
        inference_mode: D judges the images in inference mode.
    """

    inference_mode: bool

    def places(self, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """The images [M, C, H, W] at which the slope is looked at; fake: [N, C, H, W]."""

    def of_slope(self, slope: Tensor) -> Tensor:
        """The weighted penalty per image, [M], of slopes [M, C, H, W]."""


@runtime_checkable
class ClassLoss(Protocol):
    """A regularizer that adds to both players' losses what D's naming of classes costs them.

    It takes a D that `names_classes`, and a G that is told the labels that its fakes are to have.
    """

    name: str

    def discriminator_class_loss(self, real: Verdict, fake: Verdict, labels: Tensor) -> Tensor:
        """D's weighted loss per pair of a real and a fake image of one class, [N]; labels: int64 [N]."""

    def generator_class_loss(self, fake: Verdict, labels: Tensor) -> Tensor:
        """G's weighted loss per fake image, [N]; labels: int64 [N], what G was told."""


@runtime_checkable
class Projection(Protocol):
    """A regularizer that moves D's parameters back into an allowed set after each of D's updates."""

    def project(self, discriminator: nn.Module) -> None:
        """Change the parameters in place."""


@runtime_checkable
class ParameterPenalty(Protocol):
    """A regularizer on the parameters of both players, with a memory that a checkpoint holds."""

    name: str

    def memory(self, network: nn.Module) -> nn.Module:
        """What a player remembers, at its beginning."""

    def parameter_penalty(self, network: nn.Module, memory: nn.Module) -> Tensor:
        """The weighted penalty of a player, a scalar with a graph to its parameters."""

    def update(self, network: nn.Module, memory: nn.Module) -> None:
        """Remember the present parameters; called after each of the player's updates."""


@runtime_checkable
class Reparametrization(Protocol):
    """A regularizer that changes how D computes its weights, once, before training."""

    def attach(self, discriminator: nn.Module) -> None:
        """Change the freshly built module in place."""


class OptimizerRule(Component):
    """Hyper-parameters of an optimizer."""

    kind = "optimizer"

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """A torch optimizer over the given parameters."""

    @abstractmethod
    def tune(self, optimizer: Optimizer) -> None:
        """Let an optimizer that this rule built, with other numbers, go on with the present ones."""
