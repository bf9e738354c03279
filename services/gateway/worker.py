"""The control process: sweeps the jobs of all services, and collects what none of them names.

`python -m services.gateway.worker`
"""

from services.datasets import main as datasets
from services.evaluation import main as evaluation
from services.generation import main as generation
from services.kit.adapters import Adapters
from services.kit.collector import Collector, Named
from services.kit.worker import control
from services.training import main as training


def collector(adapters: Adapters) -> Collector:
    """The collector of the whole suite: every service says what its rows name."""
    named: dict[str, Named] = {}
    for part in (datasets, generation, training, evaluation):
        named |= part.named(adapters)
    return Collector(
        adapters.db,
        adapters.store,
        named,
        grace_s=adapters.settings.collect_grace_s,
        every_s=adapters.settings.collect_every_s,
    )


if __name__ == "__main__":
    control(collector)
