"""What a recipe may say. Unions over pieces are built from the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from twoplayer.core.augmentation import Augmentation
from twoplayer.core.catalogue import Settings, discover, union_of
from twoplayer.core.precision import Precision
from twoplayer.core.protocols import (
    DiscriminatorNetwork,
    GeneratorNetwork,
    Latents,
    Objective,
    OptimizerRule,
    Regularizer,
)
from twoplayer.core.schedule import Moment, Scheduled, fixed, fixed_at
from twoplayer.core.tracking import Tracker
from twoplayer.recipes.fitting import require_labels_for, require_named_classes
from twoplayer.recipes.goal import Goal

ROOMS = ("networks", "objectives", "regularizers", "augmentations", "latents", "optimizers", "schedules", "trackers")
for _room in ROOMS:
    discover(f"twoplayer.{_room}")


def _named(said: Any) -> Any:
    """A piece may be said by its name alone."""
    return {"name": said} if isinstance(said, str) else said


if TYPE_CHECKING:
    AnyAugmentation = Augmentation
    AnyGenerator = GeneratorNetwork
    AnyDiscriminator = DiscriminatorNetwork
    AnyLatents = Latents
    AnyObjective = Objective
    AnyOptimizer = OptimizerRule
    AnyRegularizer = Regularizer
    AnyTracker = Tracker
else:
    AnyAugmentation = Annotated[union_of(Augmentation), BeforeValidator(_named)]
    AnyGenerator = union_of(GeneratorNetwork)
    AnyDiscriminator = union_of(DiscriminatorNetwork)
    AnyLatents = union_of(Latents)
    AnyObjective = union_of(Objective)
    AnyOptimizer = union_of(OptimizerRule)
    AnyRegularizer = union_of(Regularizer)
    AnyTracker = Annotated[union_of(Tracker), BeforeValidator(_named)]


def _class_name(said: Any) -> Any:
    """Folders may be called 0 and 1."""
    if isinstance(said, bool):
        raise ValueError("YAML takes this name for yes or no; write it in double quotes within the list")
    return str(said) if isinstance(said, int) else said


class DataOptions(Settings):
    """Which images, and how they are brought to one form.

    Attributes:
        source: as on the command line, for example "mnist" or "folder:/my/pictures".
        split: which part to train on.
        image_size: pixels a side; left out, the images' own size.
        channels: 1 or 3; left out, the images' own.
        crop: how images that are not square become square; see `data/form.py`.
        classes: train on these only, by name.
        cache: "none": pictures of files are decoded for each batch instead of once; see docs/data.md.
        bad_images: "error": a picture that cannot be read ends it; "skip": up to 1 % are left out and listed.
        limit: train on that many images only, drawn at random; others of the split are left out.
        flip: mirror each image left to right with probability 0.5.
        halvings: how often every image is blurred and halved, as the levels of a Laplacian pyramid are.
        condition_on_coarse: the players are told each image's own low-pass version, which the next halving would leave.
        labeled_per_class: semi-supervised training: images of each class whose labels D may learn from.
    """

    source: str = Field(min_length=1)
    split: Literal["train", "test", "all"] = "train"
    image_size: int | None = Field(None, ge=1, le=4096)
    channels: Literal[1, 3] | None = None
    crop: Literal["center", "random", "none"] = "center"
    classes: Annotated[tuple[Annotated[str, BeforeValidator(_class_name)], ...], Field(strict=False)] = ()
    cache: Literal["auto", "none"] = "auto"
    bad_images: Literal["error", "skip"] = "error"
    limit: int | None = Field(None, ge=1)
    flip: bool = False
    halvings: int = Field(0, ge=0, le=12)
    condition_on_coarse: bool = False
    labeled_per_class: int | None = Field(None, ge=1)


class Simultaneous(Settings):
    """Both gradients are taken at the same parameters, from one fake batch."""

    name: Literal["simultaneous"] = "simultaneous"

    @property
    def discriminator_steps(self) -> int:
        return 1


class Alternating(Settings):
    """D's updates, then G's against the new D.

    Attributes:
        discriminator_steps: D updates per G update.
    """

    name: Literal["alternating"] = "alternating"
    discriminator_steps: int = Field(1, ge=1, le=1000)


Play = Simultaneous | Alternating


class Optimizers(Settings):
    """The update rule of each player."""

    generator: AnyOptimizer
    discriminator: AnyOptimizer


class Average(Settings):
    """Exponential moving average of a player's weights and running statistics, used for pictures, classes, snapshots.

    Attributes:
        half_life_kimg: thousands of real images after which a weight's share in the average has halved.
        warm_up: the half-life is at most this share of the images shown so far, so that early weights soon fade.
    """

    half_life_kimg: Scheduled = Field(gt=0.0)
    warm_up: float | None = Field(None, gt=0.0)

    def half_life_at(self, moment: Moment) -> float:
        """The half-life, in thousands of real images, for a step that begins then."""
        half_life = fixed(fixed_at(self, moment).half_life_kimg)
        return half_life if self.warm_up is None else min(half_life, self.warm_up * moment.kimg)


class Level(Settings):
    """What one level of a Laplacian pyramid says differently than its recipe; all of it may be left out.

    Attributes:
        steps: as in the recipe.
        epochs: as in the recipe.
        batch_size: as in the recipe.
        latents: as in the recipe.
        generator: as in the recipe; the coarsest takes no condition, all others take the coarser image.
        discriminator: as in the recipe.
        objective: as in the recipe.
        regularizers: as in the recipe.
        optimizers: as in the recipe.
    """

    steps: int | None = Field(None, ge=1)
    epochs: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    latents: AnyLatents | None = None
    generator: AnyGenerator | None = None
    discriminator: AnyDiscriminator | None = None
    objective: AnyObjective | None = None
    regularizers: Annotated[tuple[AnyRegularizer, ...] | None, Field(strict=False)] = None
    optimizers: Optimizers | None = None


class Recipe(Settings):
    """A full configuration of a training run.

    Attributes:
        name: what the recipe is called.
        title: one line for the list of recipes.
        steps: generator updates; either this or `epochs`.
        epochs: passes over the data; either this or `steps`.
        batch_size: real images per D update.
        stop: a goal that ends the run before its last step.
        seed: of every random stream.
        seeds: how many runs, with this seed and those after it, each in a folder of its own.
        log_every: steps per line of the metrics log.
        sample_every: steps between grids (one is also made at the end of each epoch).
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many of the newest are kept, besides the best.
        grid_images: pictures in a grid of samples.
        augmentation: random changes of all images that D sees, by name or as a piece: diffaugment, adaptive.
        precision: "bf16" lets layers compute in bfloat16, "auto" does where the device has it; see core/precision.py.
        fast: play through chains of layers where the players allow it: the same step in less time.
        batch_statistics: what layers that look at their batch (batch normalization, minibatch features) see of it with
            several processes: "per-rank", a share; "synchronized", all of it, for an exchange per layer and pass.
        accumulation_steps: in how many pieces each process plays its share of a batch, one after another: the same
            gradients with less memory.
        compile: whether gradients come from compiled programs; "auto": in long runs of small dense players on a CPU.
        tracking: services that are told too, by name or as pieces: tensorboard, wandb, mlflow.
        levels: a pyramid (LAPGAN): one ordinary game per level, coarsest first, trained independently.
        level_processes: how many levels are trained at the same time, each in a process of its own.
        reasons: why keys have the values that they have, in words, by dotted key; nothing else depends on it.
    """

    name: str = Field(pattern=r"^\w[\w .+-]*$", max_length=100)
    title: str = ""
    steps: int | None = Field(None, ge=1)
    epochs: int | None = Field(None, ge=1)
    stop: Goal | None = None
    batch_size: int = Field(ge=1)
    seed: int = Field(0, ge=0, lt=2**62)
    seeds: int = Field(1, ge=1, le=1000)
    log_every: int = Field(ge=1)
    sample_every: int = Field(ge=1)
    checkpoint_every: int = Field(ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    grid_images: int = Field(25, ge=1, le=10_000)
    data: DataOptions
    latents: AnyLatents
    generator: AnyGenerator
    discriminator: AnyDiscriminator
    objective: AnyObjective
    regularizers: Annotated[tuple[AnyRegularizer, ...], Field(strict=False)] = ()
    augmentation: AnyAugmentation | None = None
    play: Annotated[Play, Field(discriminator="name")]
    optimizers: Optimizers
    average: Average | None = None
    discriminator_average: Average | None = None
    precision: Precision = "fp32"
    fast: bool = True
    batch_statistics: Literal["per-rank", "synchronized"] = "per-rank"
    accumulation_steps: int = Field(1, ge=1)
    compile: Literal["auto"] | bool = "auto"
    tracking: Annotated[tuple[AnyTracker, ...], Field(strict=False)] = ()
    levels: Annotated[tuple[Level, ...], Field(strict=False)] = ()
    level_processes: int = Field(1, ge=1, le=16)
    reasons: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("say either steps or epochs")
        names = [rule.name for rule in self.regularizers]
        if len(set(names)) < len(names):
            raise ValueError(f"two regularizers have one name ({', '.join(names)})")
        require_labels_for(self.objective, self.data.labeled_per_class)
        if self.levels:
            self._check_levels()
        played = [self.level(number) for number in range(len(self.levels))] or [self]
        for each in played:
            require_named_classes(each.regularizers, each.generator, each.discriminator, each.objective)
        if self.augmentation is not None and any("condition" in each.discriminator.takes for each in played):
            raise ValueError(
                "augmentation: D is shown a condition beside each image, which would not be changed with it"
            )
        return self

    def _check_levels(self) -> None:
        if self.data.halvings or self.data.condition_on_coarse:
            raise ValueError("data.halvings and data.condition_on_coarse belong to levels; a pyramid sets them itself")
        for number in range(len(self.levels)):
            level = self.level(number)
            if ("condition" in level.generator.takes) != (number > 0):
                takes = "has to take" if number else "cannot take"
                raise ValueError(f"levels.{number}: its generator {takes} the coarser image")
        kinds = {self.level(number).latents.model_copy(update={"dim": 1}) for number in range(len(self.levels))}
        if len(kinds) > 1:
            raise ValueError("the latents of all levels have to be of one distribution")

    def level(self, number: int) -> Recipe:
        """The ordinary recipe of one level, counted from the coarsest; its images are those of the pyramid there."""
        said = {key: value for key, value in dict(self.levels[number]).items() if value is not None}
        if {"steps", "epochs"} & said.keys():
            said = {"steps": None, "epochs": None} | said
        data = self.data.model_copy(
            update={"halvings": len(self.levels) - 1 - number, "condition_on_coarse": number > 0}
        )
        rest = {"name": f"{self.name}-level-{number}", "data": data, "levels": (), "level_processes": 1}
        return self.model_copy(update=said | rest)

    def total_steps(self, batches_per_epoch: int) -> int:
        """Generator updates of the whole run; with `epochs`, the last step begins within the last pass."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return -(-self.epochs * batches_per_epoch // self.play.discriminator_steps)
