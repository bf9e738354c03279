"""What training shows of itself: the learning curves of an experiment, as pictures."""

from services.training.reports.curves import Curve, Curves, learning_curves, learning_curves_png

__all__ = ["Curve", "Curves", "learning_curves", "learning_curves_png"]
