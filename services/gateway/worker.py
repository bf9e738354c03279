"""The control worker: sweeps the jobs of all services (run it with Celery's beat)."""

from services.kit.worker import control_worker

app = control_worker()
