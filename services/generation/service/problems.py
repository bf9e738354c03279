"""What can be wrong with an order, named for the fact."""

from api_schemas.generators import TRAINING_SET_UNKNOWN
from services.kit.errors import Conflict, Forbidden, NotFound, ProblemError, TooMany, Unprocessable

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


class NoVariance(Unprocessable):
    slug = "no-variance"
    title = "The preset's network says nothing of the variance"


class NoPreview(Unprocessable):
    slug = "no-preview"
    title = "The training ends before its first preview"


class TooManyPreviews(Unprocessable):
    slug = "too-many-previews"
    title = "A training shows only so many previews"


class PreviewUnknown(NotFound):
    pass


class ImageQuota(TooMany):
    slug = "image-quota"
    title = "Your cohorts may hold a limited number of images together"
    retry_after_s = None  # time alone makes no room


class NothingToTrainOn(Unprocessable):
    slug = "nothing-to-train-on"
    title = "The dataset has no training images"


class NothingToMirror(Unprocessable):
    slug = "nothing-to-mirror"
    title = "The mirrored dataset has no training images"


class NobodyMatches(Unprocessable):
    slug = "nobody-matches"
    title = "Nobody in the generator's training population matches"


class TooManyImages(Unprocessable):
    slug = "too-many-images"
    title = "One generation holds only so many images"


class ConditionIncomplete(Unprocessable):
    slug = "condition-incomplete"
    title = "The generator's encoder has no word for unknown"


class TrainingSetUnknown(Conflict):
    slug = TRAINING_SET_UNKNOWN
    title = "Nobody knows whom this generator was trained on"


class TrainingSetKnown(Conflict):
    slug = "training-set-known"
    title = "It is known already whom this generator was trained on"


class OwnersOnly(Forbidden):
    slug = "owners-only"
    title = "Only its owner can know that"


class UploadGone(Unprocessable):
    slug = "upload-gone"
    title = "The file that was sent is not there any more"


class CheckpointUnreadable(Unprocessable):
    slug = "checkpoint-unreadable"
    title = "The file is no checkpoint, or damaged"


class CheckpointUnsafe(Unprocessable):
    slug = "checkpoint-unsafe"
    title = "The file was refused: it could do harm. Nothing of it was run"


class NetworkUnsupported(Unprocessable):
    slug = "network-unsupported"
    title = "The checkpoint holds a network that cannot be taken over"


class KeysDiffer(Unprocessable):
    slug = "keys-differ"
    title = "The checkpoint's weights are not those of its network"


class WeightsNotFinite(Unprocessable):
    slug = "weights-not-finite"
    title = "The checkpoint's weights are spoilt"


class NanLoss(ProblemError):
    status = 422
    slug = "nan-loss"
    title = "The training diverged"
