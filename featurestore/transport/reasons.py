"""Why a read that its primary does not answer is answered by nobody else."""

from collections.abc import Sequence

from featurestore.errors import FeatureStoreError
from featurestore.transport.course import Course


def with_bound(course: Course, places: Sequence[int], told: FeatureStoreError) -> FeatureStoreError:
    """Return an error that says, too, that replicas were left out since they may lag by more than is permitted."""
    request, reading = course.request, course.cluster.reading
    shard = course.shard_of(places[0])
    if not (reading.max_lag and request.repeatable and not request.primary_only and shard and shard.replicas):
        return told
    if any(map(reading.is_current, shard.replicas)):
        return told
    return type(told)(
        f"{told}; no replica is known to be within FEATURESTORE_MAX_LAG_MS={reading.max_lag * 1000:g} of it,"
        " so none was asked"
    )
