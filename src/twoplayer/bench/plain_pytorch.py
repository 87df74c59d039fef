"""A training step the way it is usually written: the baseline that the library's own step is measured against.

The players are the recipe's, as plain modules; everything else is ordinary PyTorch: float32, the default memory
layout, one pass of D for the reals and one for the fakes, slopes by `autograd.grad` with `create_graph`, torch's
optimizers with their defaults, torch's averages. The fake batch is made once where the recipe plays simultaneously.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from twoplayer.core.batch import Batch
from twoplayer.core.protocols import SlopePenalty
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.recipes.schema import Alternating, Recipe
from twoplayer.training.state import TrainingState
from twoplayer.training.step import labels_of


class PlainPyTorch:
    """The players of a fresh training state, and a step for them.

    Args:
        state: whose networks are trained; its optimizers are not used.
        recipe: what is played.
    """

    def __init__(self, state: TrainingState, recipe: Recipe) -> None:
        self.recipe = recipe
        self.game = state.game
        self.generator, self.discriminator = state.game.generator.network, state.game.discriminator.network
        self.optimizers = [torch.optim.Adam(net.parameters(), 2e-4) for net in (self.generator, self.discriminator)]
        kept = ((recipe.average, self.generator), (recipe.discriminator_average, self.discriminator))
        ema = get_ema_multi_avg_fn(0.999)
        self.averages = [(AveragedModel(net, multi_avg_fn=ema, use_buffers=True), net) for rule, net in kept if rule]

    def step(self, batches: list[Batch], stream: Stream) -> None:
        """One update of G, and of D as many as there are batches; then of the averages that the recipe keeps."""
        self.updates(batches, stream)
        for average, network in self.averages:
            average.update_parameters(network)

    def updates(self, batches: list[Batch], stream: Stream) -> None:
        """The players'."""
        for turn, real in enumerate(batches):
            place = stream.child(turn)
            fake = self.fakes(real)
            on_real, on_fake = self.judge(real.images, real), self.judge(fake, real)
            loss = self.discriminator_loss(on_real, on_fake, real, fake.detach(), place)
            if not isinstance(self.recipe.play, Alternating):
                self.update_both(loss, self.generator_loss(on_real, on_fake, real))
                return
            self.update(1, loss)
        on_fake = self.judge(self.fakes(real), real)
        if self.recipe.objective.generator_judges_real:
            on_real = self.judge(real.images, real)
        self.update(0, self.generator_loss(on_real.detach(), on_fake, real))

    def fakes(self, real: Batch) -> Tensor:
        """As many as there are reals."""
        z = torch.rand(len(real.images), self.recipe.latents.dim, device=real.images.device) * 2 - 1
        images: Tensor = self.generator(z, **real.given(self.game.generator.takes))
        return images

    def judge(self, images: Tensor, real: Batch) -> Verdict:
        """D's verdict on images of the batch's labels."""
        verdict: Verdict = self.discriminator(images, **real.given(self.game.discriminator.takes))
        return verdict

    def discriminator_loss(
        self, on_real: Verdict, on_fake: Verdict, real: Batch, fake: Tensor, stream: Stream
    ) -> Tensor:
        """D's loss with its penalties."""
        loss = self.recipe.objective.at(stream).discriminator_loss(on_real, on_fake).mean()
        for named in self.game.class_losses:
            loss = loss + named.discriminator_class_loss(on_real, on_fake, labels_of(real)).mean()
        for rule in self.game.penalties:
            if isinstance(rule, SlopePenalty):
                images = rule.places(real, fake, stream).requires_grad_()
                self.discriminator.train(not rule.inference_mode)
                logits = self.judge(images, real).logits
                self.discriminator.train()
                (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
                loss = loss + rule.of_slope(slope).mean()
            else:
                judge = self.game.discriminator.told(real)
                loss = loss + rule.discriminator_penalty(judge, real, fake, stream).mean()
        return loss

    def generator_loss(self, on_real: Verdict, on_fake: Verdict, real: Batch) -> Tensor:
        """G's, of fakes that have the batch's labels."""
        loss = self.recipe.objective.generator_loss(on_real, on_fake).mean()
        for named in self.game.class_losses:
            loss = loss + named.generator_class_loss(on_fake, labels_of(real)).mean()
        return loss

    def update_both(self, loss_d: Tensor, loss_g: Tensor) -> None:
        """Both gradients before either update."""
        by_d = torch.autograd.grad(loss_d, self.learned(1), retain_graph=True, allow_unused=True)
        by_g = torch.autograd.grad(loss_g, self.learned(0), allow_unused=True)
        for which, gradients in ((0, by_g), (1, by_d)):
            for parameter, gradient in zip(self.learned(which), gradients, strict=True):
                parameter.grad = gradient
            self.optimizers[which].step()

    def update(self, which: int, loss: Tensor) -> None:
        """One player's update."""
        self.optimizers[which].zero_grad()
        torch.autograd.backward(loss, inputs=self.learned(which))
        self.optimizers[which].step()

    def learned(self, which: int) -> list[nn.Parameter]:
        """What an optimizer changes."""
        return [parameter for group in self.optimizers[which].param_groups for parameter in group["params"]]
