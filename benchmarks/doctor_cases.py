"""Runs that are made to fail, and healthy ones: does the doctor name what is wrong?

    python benchmarks/doctor_cases.py                  all cases, then docs/doctor.md
    python benchmarks/doctor_cases.py g-frozen ...     only these, no page

Each case is a short training with a known fault. The faults are in the configuration; the doctor sees the log only.
Runs stay in --out and are not made again: delete a folder to repeat its case.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import twoplayer as tp
from twoplayer.core.errors import Diverged
from twoplayer.evaluation import game_checks, picture_checks
from twoplayer.evaluation.findings import Finding

PAGE = Path(__file__).resolve().parent.parent / "docs" / "doctor.md"
HEALTHY = "healthy"
QUICK = ("data.split=train", "steps=1500", "log_every=10", "sample_every=100", "checkpoint_every=1500")
NO_PENALTY = "regularizers=[]"
PAIRS = ("digits", *QUICK, "objective={name: relativistic}", "play={name: alternating}")


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
TOTAL, PARTIAL, IN_CLASSES = (f"mode collapse, {kind}" for kind in ("total", "partial", "within classes"))
DIVERGENCE = "divergence"
DRIFT = "drift of an unbounded discriminator"
VANISHING, EXPLODING = "vanishing generator gradient", "exploding generator gradient"
GENERATOR_DOMINATES, UNLIKE = "generator dominates", "fakes unlike real images"
OVERFITTING, MEMORIZATION, OSCILLATION = "discriminator overfitting", "memorization", "oscillation"

NAMES = (
    DOMINATES,
    GENERATOR_DOMINATES,
    TOTAL,
    PARTIAL,
    IN_CLASSES,
    UNLIKE,
    DIVERGENCE,
    DRIFT,
    VANISHING,
    EXPLODING,
    OVERFITTING,
    MEMORIZATION,
    OSCILLATION,
)

HEAD = Path(__file__).with_name("doctor_head.md")
"""The page down to its tables, with the names of limits in it."""

CASES = (
    Case(
        "d-rate-x100",
        "D's learning rate times 100, no penalty",
        ("digits", *QUICK, NO_PENALTY, "optimizers.discriminator.learning_rate=0.2"),
        (DIVERGENCE, DOMINATES),
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
        (GENERATOR_DOMINATES,),
    ),
    Case("z-of-1", "one latent dimension", ("digits", *QUICK, "latents.dim=1"), (PARTIAL, TOTAL)),
    Case(
        "g-narrow",
        "G has a layer of one unit",
        ("digits", *QUICK, "generator.widths=[256, 1]", "generator.batch_norm=false"),
        (PARTIAL, TOTAL),
    ),
    Case(
        "told-z-of-nothing",
        "both told the class, latents that hardly differ",
        ("digits-cgan", *QUICK, "latents={name: uniform, dim: 32, low: -0.001, high: 0.001}"),
        (IN_CLASSES,),
    ),
    Case(
        "four-images",
        "four training images",
        ("digits", *QUICK, "data.limit=4", "batch_size=4"),
        (OVERFITTING, MEMORIZATION),
    ),
    Case(
        "hundred-images",
        "a hundred training images, no penalty",
        ("digits", *QUICK, "data.limit=100", NO_PENALTY),
        (OVERFITTING, MEMORIZATION),
    ),
    Case(
        "wasserstein-free",
        "Wasserstein game without any bound on D's slope",
        ("digits", *QUICK, "objective={name: wasserstein}", NO_PENALTY),
        (DRIFT,),
    ),
    Case(
        "saturating",
        "saturating loss against a D that gets ten updates for each of G, no penalty",
        (
            "digits",
            *QUICK,
            NO_PENALTY,
            "objective.generator_objective=saturating",
            "play={name: alternating, discriminator_steps: 10}",
        ),
        (DOMINATES, VANISHING),
    ),
    Case(
        "g-rate-x100",
        "G's learning rate times 100",
        ("digits", *QUICK, "optimizers.generator.learning_rate=0.2"),
        (UNLIKE,),
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
        (DIVERGENCE,),
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
        (DRIFT, DIVERGENCE),
    ),
    Case(
        "wgan-gp-drift",
        "the penalty judges in inference mode, with statistics that lag behind (mnist-wgan-gp, narrow)",
        (
            "mnist-wgan-gp",
            "steps=2000",
            "batch_size=64",
            "log_every=20",
            "sample_every=200",
            "checkpoint_every=2000",
            "data.image_size=16",
            "generator.n_filters=16",
            "discriminator.n_filters=16",
            "discriminator.batch_norm_momentum=0.001",
        ),
        (DRIFT,),
    ),
    Case(
        "d-steps-10",
        "ten updates of D for each of G, no penalty",
        ("digits", *QUICK, NO_PENALTY, "play={name: alternating, discriminator_steps: 10}"),
        (DOMINATES,),
    ),
    Case(
        "pairs-g-frozen",
        "relativistic, G does not learn",
        (*PAIRS, NO_PENALTY, "optimizers.generator.learning_rate=1e-12"),
        (DOMINATES,),
    ),
    Case(
        "pairs-d-frozen",
        "relativistic, D does not learn",
        (*PAIRS, NO_PENALTY, "optimizers.discriminator.learning_rate=1e-12"),
        (GENERATOR_DOMINATES,),
    ),
    Case(
        "pairs-d-rate-x100",
        "relativistic, D's learning rate times 100, no penalty",
        (*PAIRS, NO_PENALTY, "optimizers.discriminator.learning_rate=0.2"),
        (DIVERGENCE, DOMINATES),
    ),
    Case("pairs-z-of-1", "relativistic, one latent dimension", (*PAIRS, "latents.dim=1"), (PARTIAL, TOTAL)),
    *(Case(f"digits-seed-{seed}", "healthy", ("digits", *QUICK, f"seed={seed}")) for seed in range(3)),
    Case("digits-cgan", "healthy", ("digits-cgan", *QUICK)),
    Case("digits-semi-supervised", "healthy", ("digits-semi-supervised", "sample_every=100")),
    Case("digits-hinge", "healthy", ("digits", *QUICK, "objective={name: hinge}")),
    Case("digits-relativistic", "healthy", (*PAIRS, "regularizers=[{name: r1}, {name: r2}]")),
    Case("digits-auto", "healthy", ("auto", "data.source=digits", "steps=1500")),
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


def run_case(case: Case, out: Path) -> tuple[Finding, ...]:
    """Train, or take the run that was made with the same words, and ask the doctor."""
    place = out / f"{case.name}-{hashlib.sha256(shlex.join(case.words).encode()).hexdigest()[:8]}"
    if not (place / "report.html").exists():
        with suppress(Diverged):
            tp.train(case.words[0], *case.words[1:], out=place, device="cpu", quiet=True)
    return tp.load(place).diagnose().findings


def is_right(case: Case, found: tuple[Finding, ...]) -> bool:
    """Whether the surest finding is one of the right ones, or nothing was found on a healthy run."""
    return found[0].name in case.right if found and case.right else not found and not case.right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("runs/doctor"))
    arguments = parser.parse_args()
    results: list[tuple[Case, tuple[Finding, ...]]] = []
    for case in CASES:
        if arguments.cases and case.name not in arguments.cases:
            continue
        found = run_case(case, arguments.out)
        said = "; ".join(
            f"{finding.name} ({finding.sure:.2f}, since {finding.since}: {finding.evidence})" for finding in found
        )
        print(f"{'ok ' if is_right(case, found) else 'BAD'} {case.name:22} {said or HEALTHY}", flush=True)
        results.append((case, found))
    if not arguments.cases:
        PAGE.write_text(page(results), encoding="utf-8")
        print(PAGE)


def page(results: list[tuple[Case, tuple[Finding, ...]]]) -> str:
    """The whole of docs/doctor.md."""
    broken = [is_right(case, found) for case, found in results if case.right]
    healthy = [is_right(case, found) for case, found in results if not case.right]
    lines = [
        HEAD.read_text(encoding="utf-8").format(game=game_checks, pictures=picture_checks),
        f"Of {len(broken)} runs that were made to fail {sum(broken)} are named rightly. Of {len(healthy)} healthy runs "
        f"{len(healthy) - sum(healthy)} are called ill. Rightly means: the first finding describes the fault. Where "
        "several would, the table names them all.\n",
        *confusion(results),
        "\nThe runs one by one. Further findings stand behind the first: symptoms, or less sure.\n",
        "| run | what was done to it | the doctor's words | evidence of the first | |",
        "|---|---|---|---|---|",
    ]
    for case, found in results:
        names = ", ".join(f"**{each.name}**" if place == 0 else each.name for place, each in enumerate(found))
        evidence = f"since step {found[0].since:,}: {found[0].evidence}" if found else ""
        right = "right" if is_right(case, found) else "WRONG"
        lines.append(f"| `{case.name}` | {case.fault} | {names or HEALTHY} | {evidence} | {right} |")
    lines.append("\nTheir commands:\n\n```sh")
    lines += [shlex.join(["twoplayer", "train", *case.words]) for case, _ in results]
    return "\n".join(lines) + "\n```\n"


def confusion(results: list[tuple[Case, tuple[Finding, ...]]]) -> list[str]:
    """A table: what was made in rows, the surest finding in columns."""
    said = Counter((made(case), found[0].name if found else HEALTHY) for case, found in results)
    rows = list(dict.fromkeys(row for row, _ in said))
    columns = [name for name in (*NAMES, HEALTHY) if any(column == name for _, column in said)]
    lines: list[str] = [f"| made to be | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = (str(said[row, column]) if said[row, column] else "" for column in columns)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def made(case: Case) -> str:
    """What a case was made to show: any of these is right."""
    return " / ".join(case.right) or HEALTHY


if __name__ == "__main__":
    main()
