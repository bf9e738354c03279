"""What a training shows of itself: its loss curve and its previews, as pictures."""

from services.generation.reports.curve import loss_curve
from services.generation.reports.sheet import contact_sheet

__all__ = ["contact_sheet", "loss_curve"]
