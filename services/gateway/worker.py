"""The control process: sweeps the jobs of all services. `python -m services.gateway.worker`."""

from services.kit.worker import control

if __name__ == "__main__":
    control()
