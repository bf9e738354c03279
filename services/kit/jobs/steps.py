"""Which step of its job a slice is. A handler does what it knows and refuses everything else."""

from services.kit.errors import Unprocessable
from services.kit.jobs.leases import Lease


class StepUnknown(Unprocessable):
    slug = "step-unknown"
    title = "The worker knows no such step of this job"


def step_of(lease: Lease, *known: str) -> str:
    """The slice's step, one of `known`; raises `StepUnknown`, which ends the job.

    Without any known step the slice must state none; the answer is blank then.
    """
    said = lease.payload.get("step")
    if said is None and not known:
        return ""
    if said not in known:
        raise StepUnknown(
            f"Its kind is {lease.kind}; is a worker of another version at work?",
            field="step",
            accepted=list(known),
        )
    return str(said)
