"""What can be wrong with an order, named for the fact."""

from services.kit.errors import Conflict, NotFound, ProblemError, Unprocessable

NOT_FOUND = 404


class GeneratorUnknown(NotFound):
    pass


class GenerationUnknown(NotFound):
    pass


class ImageUnknown(NotFound):
    pass


class DatasetUnknown(NotFound):
    pass


class SourceFailed(Conflict):
    slug = "source-failed"
    title = "What this needs did not succeed"


class NotReady(Conflict):
    slug = "not-ready"
    title = "It is still in the making"


class SizeDiffers(Unprocessable):
    slug = "size-differs"
    title = "The dataset has another image size than the preset"


class NothingToTrainOn(Unprocessable):
    slug = "nothing-to-train-on"
    title = "The dataset has no training images"


class NothingToMirror(Unprocessable):
    slug = "nothing-to-mirror"
    title = "The mirrored dataset has no training images"


class NobodyMatches(Unprocessable):
    slug = "nobody-matches"
    title = "Nobody in the generator's training population matches"


class NanLoss(ProblemError):
    status = 422
    slug = "nan-loss"
    title = "The training diverged"
