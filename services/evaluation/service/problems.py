"""What can go wrong with an evaluation, as problems that own their status."""

from services.kit.errors import Conflict, Forbidden, NotFound, TooLarge, Unprocessable


class PlanUnknown(NotFound):
    pass


class EvaluationUnknown(NotFound):
    pass


class FeaturesUnknown(NotFound):
    pass


class FeaturesUnusable(Unprocessable):
    slug = "features-unusable"
    title = "These are not the features that are asked for"


class FeaturesLacking(Unprocessable):
    slug = "features-lacking"
    title = "Some images have no features"


class FeaturesDamaged(Conflict):
    slug = "features-damaged"
    title = "Stored features are gone, or no longer what was sent"


class AgreementUnusable(Unprocessable):
    slug = "agreement-unusable"
    title = "This evaluation says nothing of the classifier's agreement with the cohort"


class ReportUnknown(NotFound):
    pass


class PlanRegistered(Conflict):
    slug = "plan-registered"
    title = "This experiment has another plan already, and a plan is never changed"


class PlanInconsistent(Unprocessable):
    slug = "plan-inconsistent"
    title = "The plan contradicts itself"


class OnlyTrainingTells(Forbidden):
    slug = "only-training-tells"
    title = "The training service alone tells of its own runs"


class NotInPlan(Unprocessable):
    slug = "not-in-plan"
    title = "The plan does not have this"


class PredictionsUnusable(Unprocessable):
    slug = "predictions-unusable"
    title = "This is not a table of predictions"


class PredictionsReceived(Conflict):
    slug = "predictions-received"
    title = "Other predictions were received for this arm, seed and test set"


class PredictionsDisagree(Conflict):
    slug = "predictions-disagree"
    title = "These predictions are not of the same test set as those received before"


class EvaluationBegun(Conflict):
    slug = "evaluation-begun"
    title = "The plan is evaluated, and takes nothing more"


class NothingAbsent(Conflict):
    slug = "nothing-absent"
    title = "Nothing of this run is missing"


class ParticularsKnown(Conflict):
    slug = "particulars-known"
    title = "The particulars of a plan are told once, before its predictions"


class NothingToCompare(Conflict):
    slug = "nothing-to-compare"
    title = "Too many runs failed to answer the registered question"


class NothingToRecompute(Conflict):
    slug = "nothing-to-recompute"
    title = "The plan has not been evaluated yet"


class ResultsDiffer(Conflict):
    slug = "results-differ"
    title = "The same predictions and method gave other numbers than those on record"


class VersionUnknown(NotFound):
    pass


class FilterUnknown(Unprocessable):
    slug = "filter-unknown"
    title = "The results have no such value"


class VersionOfNothing(Unprocessable):
    slug = "version-of-nothing"
    title = "A version is that of an experiment"


class PlanClosed(Conflict):
    slug = "plan-closed"
    title = "The data behind this plan has been deleted"


class PredictionsTooLarge(TooLarge):
    slug = "predictions-too-large"
    title = "The predictions are too large"


class PredictionsDamaged(Conflict):
    slug = "predictions-damaged"
    title = "Stored predictions are gone, or no longer what was sent"


class DataUnknown(NotFound):
    slug = "data-unknown"
    title = "There is no such dataset or generation"


class DataNotReady(Conflict):
    slug = "data-not-ready"
    title = "The data has no manifest (yet)"


class SetEmpty(Unprocessable):
    slug = "set-empty"
    title = "The set has no images"


class WithoutImages(Unprocessable):
    slug = "data-without-images"
    title = "The data is a table without images"


class ImageDamaged(Conflict):
    slug = "image-damaged"
    title = "An image is missing or is not what its manifest says"


class OverlapUnknown(NotFound):
    pass


class TooManyToCompare(Unprocessable):
    slug = "too-many-to-compare"
    title = "Too many images to compare each with each"


class QualityUnknown(NotFound):
    pass


class QualityNotReady(Conflict):
    slug = "quality-not-ready"
    title = "The cohort has not been measured (yet)"


class SetMixed(Unprocessable):
    slug = "set-mixed"
    title = "The set mixes real and synthetic images"


class ReferenceNotReal(Unprocessable):
    slug = "reference-not-real"
    title = "A cohort is measured beside real images"


class ReferenceMissing(Unprocessable):
    slug = "reference-missing"
    title = "Nobody knows which dataset the generator was trained on"


class TooFewToMeasure(Unprocessable):
    slug = "too-few-to-measure"
    title = "Too few to measure a cohort by"


class ExportUnknown(NotFound):
    pass


class ExportForbidden(Forbidden):
    slug = "export-forbidden"
    title = "The terms of the data forbid that"


class ExportNotReady(Conflict):
    slug = "export-not-ready"
    title = "The export has not been checked (yet)"


class DataChanged(Conflict):
    slug = "data-changed"
    title = "The data is no longer what was to be exported"
