"""What training shows of itself: the learning curves of an experiment, as pictures."""

from services.training.reports.curves import Curves, learning_curves, learning_curves_png

__all__ = ["Curves", "learning_curves", "learning_curves_png"]
