"""Runs that are made to fail, and healthy ones: does the doctor name what is wrong?

    python benchmarks/doctor_cases.py                  all cases, then docs/doctor.md
    python benchmarks/doctor_cases.py g-frozen ...     only these, no page

Each case is a short training with a known fault. The faults are in the configuration; the doctor sees the log only.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import twoplayer as tp
from twoplayer.core.errors import Diverged
from twoplayer.evaluation.doctor import diagnose
from twoplayer.evaluation.findings import Finding
from twoplayer.runs.log import read_rows

BOTH = "optimizers.{}.learning_rate={}"
QUICK = ("data.split=train", "steps=1500", "log_every=10", "sample_every=100", "checkpoint_every=1500")
NO_PENALTY = "regularizers=[]"


@dataclass(frozen=True)
class Case:
    """A training and what the doctor should say of it.

    Attributes:
        name: of the case.
        fault: what is wrong, in words.
        words: recipe and overrides.
        right: findings of which one has to be the surest; empty for a healthy run.
    """

    name: str
    fault: str
    words: tuple[str, ...]
    right: tuple[str, ...] = ()


DOMINATES = "discriminator dominates"
TOTAL, PARTIAL = "mode collapse, total", "mode collapse, partial"
DIVERGED, DIVERGENCE = "diverged", "divergence"
DRIFT = "drift of an unbounded discriminator"
VANISHING, EXPLODING = "vanishing generator gradient", "exploding generator gradient"
OVERFITTING, MEMORIZATION, OSCILLATION = "discriminator overfitting", "memorization", "oscillation"

CASES = (
    Case(
        "d-rate-x100",
        "D's learning rate times 100, no penalty",
        ("digits", *QUICK, NO_PENALTY, "optimizers.discriminator.learning_rate=0.2"),
        (DOMINATES, VANISHING, DIVERGENCE),
    ),
    Case(
        "g-frozen",
        "G does not learn",
        ("digits", *QUICK, NO_PENALTY, "optimizers.generator.learning_rate=1e-12"),
        (DOMINATES,),
    ),
    Case(
        "d-frozen",
        "D does not learn",
        ("digits", *QUICK, "optimizers.discriminator.learning_rate=1e-12"),
        ("generator dominates",),
    ),
    Case("z-of-1", "one latent dimension", ("digits", *QUICK, "latents.dim=1"), (PARTIAL, TOTAL)),
    Case(
        "g-narrow",
        "G has a layer of one unit",
        ("digits", *QUICK, "generator.widths=[256, 1]", "generator.batch_norm=false"),
        (PARTIAL, TOTAL),
    ),
    Case(
        "four-images",
        "four training images",
        ("digits", *QUICK, "data.limit=4", "batch_size=4"),
        (MEMORIZATION, OVERFITTING),
    ),
    Case(
        "hundred-images",
        "a hundred training images, no penalty",
        ("digits", *QUICK, "data.limit=100", NO_PENALTY),
        (OVERFITTING, MEMORIZATION, DOMINATES),
    ),
    Case(
        "wasserstein-free",
        "Wasserstein game without any bound on D's slope",
        ("digits", *QUICK, "objective={name: wasserstein}", NO_PENALTY),
        (DRIFT, EXPLODING),
    ),
    Case(
        "saturating",
        "saturating loss against a D that gets ten updates for each of G, ten times as fast",
        (
            "digits",
            *QUICK,
            NO_PENALTY,
            "objective.generator_objective=saturating",
            "play={name: alternating, discriminator_steps: 10}",
            "optimizers.discriminator.learning_rate=0.02",
        ),
        (VANISHING, DOMINATES),
    ),
    Case(
        "g-rate-x100",
        "G's learning rate times 100",
        ("digits", *QUICK, "optimizers.generator.learning_rate=0.2"),
        (TOTAL, PARTIAL, OSCILLATION),
    ),
    Case(
        "momentum",
        "plain gradient descent with momentum 0.95, both fast",
        (
            "digits",
            *QUICK,
            NO_PENALTY,
            "optimizers.generator={name: sgd, learning_rate: 0.1, momentum: 0.95}",
            "optimizers.discriminator={name: sgd, learning_rate: 0.1, momentum: 0.95}",
        ),
        (OSCILLATION, TOTAL, PARTIAL, DOMINATES, DIVERGED, DIVERGENCE),
    ),
    Case(
        "least-squares-fast",
        "least squares with a learning rate of 1",
        (
            "digits",
            *QUICK,
            NO_PENALTY,
            "objective={name: least-squares}",
            "optimizers.discriminator.learning_rate=1.0",
            "optimizers.generator.learning_rate=1.0",
        ),
        (DIVERGED, DRIFT, EXPLODING, TOTAL),
    ),
    Case(
        "wgan-gp-drift",
        "the gradient penalty in inference mode, where D's own statistics lag (mnist-wgan-gp, narrow)",
        (
            "mnist-wgan-gp",
            "steps=2000",
            "log_every=20",
            "sample_every=200",
            "checkpoint_every=2000",
            "generator.n_filters=16",
            "discriminator.n_filters=16",
        ),
        (DRIFT, EXPLODING),
    ),
    Case(
        "d-steps-10",
        "ten updates of D for each of G, no penalty",
        ("digits", *QUICK, NO_PENALTY, "play={name: alternating, discriminator_steps: 10}"),
        (DOMINATES, OVERFITTING),
    ),
    *(Case(f"digits-seed-{seed}", "healthy", ("digits", *QUICK, f"seed={seed}")) for seed in range(3)),
    Case("digits-cgan", "healthy", ("digits-cgan", *QUICK)),
    Case("digits-hinge", "healthy", ("digits", *QUICK, "objective={name: hinge}")),
    Case("digits-least-squares", "healthy", ("digits", *QUICK, "objective={name: least-squares}")),
    Case(
        "digits-wgan-gp",
        "healthy",
        (
            "digits",
            *QUICK,
            "objective={name: wasserstein}",
            "regularizers=[{name: gradient-penalty, weight: 10.0, target: 1.0}]",
        ),
    ),
    Case("mnist-mlp-gan", "healthy", ("mnist-mlp-gan", "steps=3000", "sample_every=200")),
)


def run_case(case: Case, out: Path) -> list[Finding]:
    """Train, or take the run that is there, and ask the doctor."""
    place = out / case.name
    diverged: Diverged | None = None
    if not (place / "report.html").exists():
        try:
            tp.train(case.words[0], *case.words[1:], out=place, device="cpu", quiet=True)
        except Diverged as error:
            diverged = error
    found = diagnose(read_rows(place / "metrics.jsonl"))
    if diverged is not None:
        found.insert(0, Finding(DIVERGED, diverged.step, str(diverged), 1.0, ()))
    return found


def is_right(case: Case, found: list[Finding]) -> bool:
    """Whether the surest finding is one of the right ones, or nothing was found on a healthy run."""
    return found[0].name in case.right if found and case.right else not found and not case.right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("runs/doctor"))
    arguments = parser.parse_args()
    for case in CASES:
        if arguments.cases and case.name not in arguments.cases:
            continue
        found = run_case(case, arguments.out)
        said = "; ".join(
            f"{finding.name} ({finding.sure:.2f}, since {finding.since}: {finding.evidence})" for finding in found
        )
        print(f"{'ok ' if is_right(case, found) else 'BAD'} {case.name:22} {said or 'healthy'}", flush=True)


if __name__ == "__main__":
    main()
