"""What must hold whatever has happened; checked after every test of this folder."""

from collections import Counter
from uuid import UUID

from services.kit.objects import sha256
from tests.faults.house import House

TERMINAL = {"succeeded", "failed", "cancelled", "quarantined"}
MOVING = {"queued", "running"}


def check(house: House) -> None:
    """Raise for the first thing that does not hold."""
    jobs = {row.id: row for row in house.query("SELECT * FROM jobs.jobs")}
    slices: dict[UUID, list] = {job: [] for job in jobs}
    for row in house.query("SELECT * FROM jobs.slices ORDER BY job, ordinal"):
        slices[row.job].append(row)
    lost = [job for job in house.accepted if job not in jobs]
    assert not lost, f"accepted and lost: {lost}"
    for job, row in jobs.items():
        _is_terminal_or_moving(house, row, {s.state for s in slices[job]})
    _attempts_add_up(house, [s for of_job in slices.values() for s in of_job])
    _images_have_one_winner(house, jobs, slices)


def _is_terminal_or_moving(house: House, job, states: set[str]) -> None:
    if job.state in TERMINAL:
        assert job.finished_at is not None, job
        may_be = {"queued"} if job.state == "quarantined" else set()  # they wait for a retry
        assert not states & MOVING - may_be, f"{job.id} has {job.state} with slices {states}"
        if job.state == "succeeded":
            assert states <= {"done"}, f"{job.id} has succeeded with slices {states}"
    elif job.state == "blocked":
        awaited = house.query(
            "SELECT j.state FROM jobs.waits w JOIN jobs.jobs j ON j.id = w.awaited "
            "WHERE w.job = :job",
            {"job": job.id},
        )
        may_come = {row.state for row in awaited} - (TERMINAL - {"quarantined"})  # that is retried
        assert may_come, f"{job.id} waits for nothing"
    else:
        assert states & MOVING, f"{job.id} is {job.state}, but nothing of it can run: {states}"


def _attempts_add_up(house: House, slices: list) -> None:
    """Every claim is on record once; only the last one may be open, or done."""
    attempts: dict[int, list] = {each.id: [] for each in slices}
    for row in house.query("SELECT * FROM jobs.attempts ORDER BY slice, number"):
        attempts[row.slice].append(row)
    for each in slices:
        of_slice = attempts[each.id]
        assert [a.number for a in of_slice] == list(range(1, each.attempts + 1)), each
        outcomes = [a.outcome for a in of_slice]
        assert (None in outcomes) == (each.state == "running"), (each, outcomes)
        assert ("done" in outcomes) == (each.state == "done"), (each, outcomes)
        assert not {None, "done"} & set(outcomes[:-1]), (each, outcomes)
        crashes = sum(outcome in {"crashed", "lost"} for outcome in outcomes)
        assert each.crashes <= crashes, (each, outcomes)


def _images_have_one_winner(house: House, jobs: dict, slices: dict[UUID, list]) -> None:
    images = house.query("SELECT job, n, key, sha256 FROM stub.images")
    winners = Counter((image.job, image.n) for image in images)
    assert set(winners.values()) <= {1}, f"published twice: {winners.most_common(3)}"
    for image in images:
        content = house.adapters.store.get(image.key)
        assert sha256(content) == image.sha256, f"wrong bytes under {image.key}"
    for job, row in jobs.items():
        if row.kind == "order":
            made = [s for s in slices[job] if s.state == "done" and "plain" not in s.payload]
            done = {(job, s.payload["n"]) for s in made}
            missing = done - winners.keys()
            assert not missing, f"finished and not published: {missing}"
