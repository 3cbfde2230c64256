"""Writes may take longer than reads: they are waited for while Redis is slow, and reads beside them are as ever."""

import time
from typing import Any

from support.kinds import Kind, Shared, over_each, over_shared
from support.scripted import encoded, unpacked
from support.scripted_async import PATIENT_S, Behaviour, Peer, echo, ignore

from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import GET_FEATURES, UPSERT_FEATURES
from featurestore.errors import DeadlineExceededError, OverloadedError, UnavailableError

SHORT_S = 0.05
SILENT_S = 4 * SHORT_S
"""After this a connection is given up on which nothing arrives."""

BIG_US = 1000.0


def quick(kind: Kind, url: str, write_timeout: float = PATIENT_S) -> Any:
    """Return a transport whose reads have little time, and whose writes have much."""
    return kind.connect(url, timeout=SHORT_S, write_timeout=write_timeout)


def echo_after(go: Any) -> Behaviour:
    """Return what takes commands, but answers them only once `go` is set."""

    async def behave(peer: Peer) -> None:
        first = (await peer.command())[-1]
        await go.wait()
        peer.send(b"$%d\r\n%s\r\n" % (len(first), first))
        await echo(peer)

    return behave


def written_after(go: Any) -> Behaviour:
    """Return what answers upserts as if they had written one row, and echoes all else, once `go` is set."""

    async def behave(peer: Peer) -> None:
        command = await peer.command()
        await go.wait()
        while True:
            written, word = command[1] == UPSERT_FEATURES.sha.encode(), command[-1]
            peer.send(b"*3\r\n:1\r\n:0\r\n*0\r\n" if written else b"$%d\r\n%s\r\n" % (len(word), word))
            command = await peer.command()

    return behave


def upserts(transport: Any, count: int) -> Any:
    """Write by so many calls, which together take long enough to be sent a few at a time."""
    calls = [encode_call(UPSERT_FEATURES, ("a", "b", f"c{number}"), ("", "0")) for number in range(count)]
    return transport.run_many_encoded(UPSERT_FEATURES, calls, each_us=BIG_US)


def big_read(transport: Any) -> Any:
    """Read by two calls, which take too long to be sent together."""
    calls = [encode_call(GET_FEATURES, ("a", "b", "c"), (encoded("read"),))] * 2
    return transport.run_many_encoded(GET_FEATURES, calls, each_us=BIG_US)


@over_each
async def test_a_write_is_waited_for_when_a_read_no_longer_is(kind: Kind) -> None:
    go = kind.event()
    async with kind.server(echo_after(go), ignore) as server:
        transport = quick(kind, server.url)
        write = kind.start(kind.write(transport, "late"))
        await kind.eventually(lambda: server.received)
        for _ in range(2):
            assert isinstance(await kind.start(kind.read(transport, "read")), DeadlineExceededError)
        go.set()
        assert await write == b"late"


@over_each
async def test_a_write_has_an_end(kind: Kind) -> None:
    async with kind.server(ignore) as server:
        transport = quick(kind, server.url, write_timeout=3 * SHORT_S)
        started = time.monotonic()
        assert isinstance(await kind.start(kind.write(transport, "never")), DeadlineExceededError)
        assert time.monotonic() - started >= 3 * SHORT_S


@over_each
async def test_a_read_is_given_up_in_its_time_behind_a_write(kind: Kind) -> None:
    go = kind.event()
    async with kind.server(echo_after(go), ignore) as server:
        transport = quick(kind, server.url)
        write = kind.start(kind.write(transport, "write"))
        await kind.eventually(lambda: server.received)
        assert isinstance(await kind.start(kind.read(transport, "read")), DeadlineExceededError)
        go.set()
        assert await write == b"write"


@over_each
async def test_commands_that_belong_to_a_write_have_its_time(kind: Kind) -> None:
    go = kind.event()

    async def command(transport: Any) -> Any:
        return await transport.command("ECHO", "schema", writes=True)

    async with kind.server(echo_after(go), ignore) as server:
        transport = quick(kind, server.url)
        asked = kind.start(command(transport))
        await kind.eventually(lambda: server.received)
        assert isinstance(await kind.start(kind.read(transport, "read")), DeadlineExceededError)
        go.set()
        assert await asked == b"schema"


@over_shared
async def test_a_silent_connection_is_kept_where_only_writes_wait(kind: Shared) -> None:
    go = kind.event()
    async with kind.server(echo_after(go)) as server:
        transport = quick(kind, server.url)
        await kind.open(transport)
        await kind.eventually(lambda: transport._link.pipeline.proved)  # so that nothing but the write waits
        link = transport._link
        write = kind.start(kind.write(transport, "write"))
        await kind.eventually(lambda: server.received)
        await kind.sleep(SILENT_S + SHORT_S)
        assert transport._link is link
        go.set()
        assert await write == b"write"
        assert server.accepted == 1


@over_shared
async def test_a_silent_connection_is_set_aside_for_its_writes_and_reads_take_another(kind: Shared) -> None:
    go = kind.event()
    async with kind.server(echo_after(go), echo) as server:
        transport = quick(kind, server.url)
        write = kind.start(kind.write(transport, "write"))
        await kind.eventually(lambda: server.received)
        old, started = transport._link, time.monotonic()
        assert isinstance(await kind.start(kind.read(transport, "late")), DeadlineExceededError)
        await kind.eventually(lambda: transport._link is not old)
        assert time.monotonic() - started < PATIENT_S / 2  # long before the write is given up
        assert await kind.read(transport, "other") == b"other"
        assert old in transport._retired
        go.set()
        assert await write == b"write"
        await kind.eventually(lambda: not transport._retired)
        assert server.accepted == 2
        assert await kind.read(transport, "again") == b"again"


@over_shared
async def test_reads_under_way_fail_when_the_connection_is_set_aside_and_are_not_repeated(kind: Shared) -> None:
    go = kind.event()
    async with kind.server(echo_after(go), echo) as server:
        transport = quick(kind, server.url)
        write = kind.start(kind.write(transport, "write"))
        reads = [kind.start(kind.read(transport, "first"))]
        await kind.eventually(lambda: len(server.received) == 1)
        old = transport._link
        while transport._link is old:
            reads.append(kind.start(kind.read(transport, "read")))
            await kind.sleep(SHORT_S / 5)
        outcomes = [await read for read in reads]
        late = [each for each in outcomes if isinstance(each, DeadlineExceededError)]
        lost = [each for each in outcomes if isinstance(each, UnavailableError) and each not in late]
        assert late
        assert lost
        assert all("has not answered for 200 ms" in str(each) for each in lost)
        go.set()
        assert await write == b"write"


@over_shared
async def test_big_reads_of_which_nothing_was_sent_go_to_the_other_connection(kind: Shared) -> None:
    go = kind.event()
    async with kind.server(echo_after(go), echo) as server:
        transport = quick(kind, server.url)
        write = kind.start(kind.write(transport, "write"))
        await kind.eventually(lambda: server.received)
        old, reads = transport._link, []
        while transport._link is old:
            reads += [kind.start(big_read(transport)) for _ in range(2)]  # of the second nothing is sent
            await kind.sleep(SHORT_S / 5)
        outcomes = [await read for read in reads]
        assert [b"read"] * 2 in [list(map(unpacked, each)) for each in outcomes if isinstance(each, list)]
        assert old.turns.waiting == 0
        go.set()
        assert await write == b"write"


@over_shared
async def test_a_connection_that_is_set_aside_ends_with_the_time_of_its_writes(kind: Shared) -> None:
    async with kind.server(ignore, echo) as server:
        transport = quick(kind, server.url, write_timeout=2 * SILENT_S)
        write = kind.start(kind.write(transport, "write"))
        read = kind.start(kind.read(transport, "read"))
        assert isinstance(await read, DeadlineExceededError)
        assert isinstance(await write, DeadlineExceededError)
        await kind.eventually(lambda: not transport._retired)
        assert await kind.read(transport, "other") == b"other"


@over_shared
async def test_a_big_write_goes_on_where_the_connection_was_set_aside(kind: Shared) -> None:
    go = kind.event()
    async with kind.server(written_after(go), echo) as server:
        transport = quick(kind, server.url)
        write = kind.start(upserts(transport, 20))
        await kind.eventually(lambda: server.received)
        old = transport._link
        assert isinstance(await kind.start(kind.read(transport, "late")), DeadlineExceededError)
        await kind.eventually(lambda: transport._link is not old)
        assert await kind.read(transport, "other") == b"other"
        go.set()
        replies = await write
        assert [reply[0] for reply in replies] == [1] * 20
        await kind.eventually(lambda: not transport._retired)


@over_shared
async def test_nobody_waits_for_a_big_write_on_a_connection_that_was_set_aside(kind: Shared) -> None:
    async with kind.server(ignore, echo) as server:
        transport = quick(kind, server.url)
        write = kind.start(upserts(transport, 20))
        await kind.eventually(lambda: server.received)
        old = transport._link
        assert isinstance(await kind.start(kind.read(transport, "late")), DeadlineExceededError)
        await kind.eventually(lambda: old in transport._retired)
        assert old.turns.waiting
        await kind.stop(write)
        assert not old.turns.waiting
        assert old.pipeline.state.name == "ACTIVE"
        assert await kind.read(transport, "other") == b"other"
        assert old.pipeline.state.name == "RETIRING"


@over_shared
async def test_writes_wait_for_their_turns_and_leave_room_for_reads(kind: Shared) -> None:
    go = kind.event()
    async with kind.server(written_after(go)) as server:
        transport = quick(kind, server.url, write_timeout=1.0)
        tasks = [kind.start(upserts(transport, 20)) for _ in range(80)]  # 20 ms each
        await kind.eventually(lambda: server.received)
        link = transport._link
        assert link.turns.expected_wait(0.0) < SHORT_S  # what a read would wait
        go.set()
        outcomes = [await task for task in tasks]
        refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
        assert 10 < len(refused) < 40  # those that would wait more than 1 s
        assert all(len(outcome) == 20 for outcome in outcomes if isinstance(outcome, list))
        assert len(refused) + sum(isinstance(outcome, list) for outcome in outcomes) == 80
