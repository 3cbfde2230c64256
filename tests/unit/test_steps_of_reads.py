"""The steps of reads: a batch is one call of all ids on a single Redis, and one of each partition in a cluster."""

from featurestore.contract.partitioned_calls import READS
from featurestore.contract.resp import Word, encode_call
from featurestore.contract.scripts import GET_FEATURES_BATCH
from featurestore.contract.selection import Selection
from featurestore.keys import EntityKeys, Keys, PartitionedKeys, partition_of
from featurestore.store.batches import read_json
from featurestore.store.plan import Calls

LAYOUT = "@layout0"
IDS = [f"user{number:05}" for number in range(100)]


def first_step(keys: EntityKeys, ids: list[str]) -> Calls:
    """Return what a read of JSON yields first."""
    selection = Selection(["age"], ["int"], [LAYOUT], "user_id").for_keys(keys)
    step = next(read_json(selection, ids, selection.renderer))
    assert isinstance(step, Calls)
    return step


def test_a_batch_of_a_single_redis_is_one_call() -> None:
    step, keys = first_step(Keys(), IDS), Keys()
    words: list[Word] = [1, LAYOUT, *IDS]
    assert step.script is GET_FEATURES_BATCH
    assert list(step.encoded) == [
        encode_call(GET_FEATURES_BATCH, (keys.members, keys.schema, *map(keys.features, IDS)), words)
    ]


def test_a_batch_in_a_cluster_is_a_call_for_each_partition() -> None:
    for ids in (IDS, IDS * 10):
        step = first_step(PartitionedKeys("user", 64), ids)
        assert step.script is READS
        assert len(step.encoded) == len({partition_of(each.encode(), 64) for each in ids})
