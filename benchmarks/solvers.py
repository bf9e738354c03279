"""How far each solver ends from a long reference, and what that does to classifiers.

    python -m benchmarks.solvers [--site phantom-a] [--train 500] [--errors]

First on independent pixels, whose solution can be written down: seconds. Then trains `tiny-32` on
phantoms in an installation of its own and compares the images of several solvers with those of 500
and 1000 steps from the same noise: 2 to 3 minutes on two cores. Then trains classifiers on cohorts
of the published solver and of ours.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import torch

from api_schemas.arms import Arm, Source, Stage
from api_schemas.base import DatasetRef, GenerationRef
from api_schemas.client import Client, wait
from api_schemas.generation import ConditionRequest, GenerateRequest, Sampler
from api_schemas.generators import GeneratorRequest
from api_schemas.imports import PhantomImport, PhantomSite
from api_schemas.training import (
    ClassifierSettings,
    EvaluationSet,
    ExperimentRequest,
    PlanRequest,
    TestSet,
)
from services.generation.diffusion import schedule as schedules
from services.generation.diffusion.checkpoints import load_weights
from services.generation.diffusion.denoising import Denoiser
from services.generation.diffusion.samplers import SAMPLERS
from services.generation.diffusion.sampling import noise
from services.local.launcher import Launcher

LIMIT_S = 3600.0
IMAGES = 24
PATIENTS = {PhantomSite.A: 200, PhantomSite.B: 200}
PUBLISHED = Sampler(name="ddim", steps=200)
OURS = Sampler(name="dpmsolver++", steps=20)
SOLVERS = (
    [PUBLISHED, OURS]
    + [Sampler(name="dpmsolver++", steps=steps) for steps in (15, 25, 30)]
    + [Sampler(name="dpmsolver++", spacing="trailing", steps=steps) for steps in (15, 20, 25, 30)]
    + [Sampler(name="ddim", steps=steps) for steps in (20, 50)]
)
REFERENCES = [
    Sampler(name="ddim", steps=500),
    Sampler(name="dpmsolver++", spacing="trailing", steps=500),
    Sampler(name="dpmsolver++", spacing="trailing", steps=1000),
]
"""`ddim` of 500 steps shares the bias of 200; every timestep once is as near as one can come."""


def name_of(sampler: Sampler) -> str:
    return f"{sampler.name} {sampler.spacing} {sampler.steps}"


def show_known() -> None:
    """Independent pixels of mean 0 and standard deviation s: noise eps becomes s eps, exactly."""
    schedule = schedules.SCHEDULES[schedules.PUBLISHED]()
    s = torch.linspace(0.02, 0.5, 256, dtype=torch.float64).reshape(1, 1, 16, 16)
    eps = torch.randn(s.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def ideal(x: torch.Tensor, t: int) -> torch.Tensor:
        alpha, sigma = schedule.at(t)
        return alpha * s**2 / (alpha**2 * s**2 + sigma**2) * x

    print("rms distance to the solution where it is known")
    for sampler in [*SOLVERS, REFERENCES[0]]:
        found = SAMPLERS[sampler.name, sampler.spacing](ideal, eps, schedule, sampler.steps)
        error = (found - s * eps).square().mean().sqrt().item()
        print(f"  {name_of(sampler):<28}{error:>10.4f}")


def cohort(client: Client, request: GenerateRequest) -> UUID:
    made = client.post_generate(request).id
    wait(lambda: client.get_generation(made).job, limit_s=LIMIT_S)
    return made


@torch.inference_mode()
def show_errors(client: Client, generator: UUID, weights: Path) -> None:
    """Root mean square over pixels in [-1, 1], of images from the same noise and condition."""
    request = GenerateRequest(
        generator=generator, conditions=[ConditionRequest(count=IMAGES)], sampler=OURS
    )
    made = cohort(client, request)
    recipes = [image.recipe for image in client.generation_images(made)]
    digest = client.get_generator(generator).digest
    model = load_weights(weights / f"{digest}.safetensors")
    torch.set_num_threads(1)
    c = torch.from_numpy(model.encoder.encode([r.condition for r in recipes]))
    x = torch.from_numpy(noise([r.seed for r in recipes], model.size_px))

    def images(sampler: Sampler) -> np.ndarray:
        solve = SAMPLERS[sampler.name, sampler.spacing]
        denoise = Denoiser(model.network, model.schedule, c)
        return solve(denoise, x, model.schedule, sampler.steps).numpy()

    references = {name_of(sampler): images(sampler) for sampler in REFERENCES}
    print(f"\nrms distance over {IMAGES} images to   " + "   ".join(references))
    for sampler in SOLVERS:
        found = images(sampler)
        errors = [np.sqrt(np.mean((found - each) ** 2)) for each in references.values()]
        print(f"  {name_of(sampler):<28}" + "".join(f"{error:>27.4f}" for error in errors))


def show_downstream(client: Client, generator: UUID, datasets: Sequence[UUID]) -> None:
    """Macro AUROC of classifiers that saw nothing but one cohort, equal steps, two seeds."""
    home = DatasetRef(dataset=datasets[0])

    def arm(name: str, data: DatasetRef | GenerationRef) -> Arm:
        return Arm(name=name, stages=[Stage(sources=[Source(data=data)])])

    def mirrored(sampler: Sampler) -> GenerationRef:
        request = GenerateRequest(
            generator=generator, mirror=DatasetRef(dataset=datasets[0]), sampler=sampler
        )
        return GenerationRef(generation=cohort(client, request))

    request = ExperimentRequest(
        name="solvers",
        arms=[
            arm("published", mirrored(PUBLISHED)),
            arm("ours", mirrored(OURS)),
            arm("real", home),
        ],
        plan=PlanRequest(reference="published", primary="ours"),
        seeds=[0, 1],
        classifier=ClassifierSettings(epochs=8),
        validation=EvaluationSet(data=home, split="validation"),
        tests=[
            TestSet(name="a", data=home),
            TestSet(name="b", data=DatasetRef(dataset=datasets[1]), split="all"),
        ],
    )
    made = client.post_experiment(request)
    wait(lambda: client.get_experiment(made.id).job, limit_s=LIMIT_S)
    evaluation = client.get_plan(made.plan).job
    if evaluation is not None:  # the last predictions are pushed before the experiment succeeds
        wait(lambda: client.get_job(evaluation.id), limit_s=LIMIT_S)
    print("\nmacro AUROC on real phantoms of classifiers that saw one cohort")
    print(f"  'published' is {name_of(PUBLISHED)}, 'ours' {name_of(OURS)}")
    for row in client.results(made.id, label="macro"):
        low, high = row.low or 0.0, row.high or 0.0
        print(f"  {row.arm:<10} test {row.test}: {row.auroc:.3f} [{low:.3f}, {high:.3f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description="How far each solver ends from the solution.")
    parser.add_argument("--site", choices=list(PATIENTS), default=PhantomSite.A, type=PhantomSite)
    parser.add_argument("--train", type=int, default=500, help="steps of the generator")
    parser.add_argument("--errors", action="store_true", help="no classifiers")
    asked = parser.parse_args()
    show_known()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        launcher = Launcher(state)
        access = launcher.up()
        try:
            with Client(access.url, access.key) as client:
                sites = sorted(PATIENTS, key=lambda site: site != asked.site)
                datasets = [a_dataset(client, site, PATIENTS[site]) for site in sites]
                generator = a_generator(client, datasets[0], asked.train)
                show_errors(client, generator, state / "scratch" / "weights")
                if not asked.errors:
                    show_downstream(client, generator, datasets)
        finally:
            launcher.down()


def a_dataset(client: Client, site: PhantomSite, patients: int) -> UUID:
    made = client.post_dataset(
        PhantomImport(format="phantom", name=site, site=site, patients=patients, seed=1)
    ).id
    wait(lambda: client.get_dataset(made).job, limit_s=LIMIT_S)
    return made


def a_generator(client: Client, dataset: UUID, steps: int) -> UUID:
    request = GeneratorRequest(
        name="solvers", dataset=dataset, preset="tiny-32", steps=steps, seed=1
    )
    made = client.post_generator(request).id
    wait(lambda: client.get_generator(made).job, limit_s=LIMIT_S)
    return made


if __name__ == "__main__":
    main()
