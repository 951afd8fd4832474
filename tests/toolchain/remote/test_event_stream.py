"""Claims about reading events: the same whatever pieces the bytes come in."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from toolchain.remote.event_stream import EventReader

STREAM = (
    b": ping\n\n"
    b'data: {"text": "one"}\n\n'
    + 'data: {"text": "二\u2028\x0b\x85"}\r\n\r\n'.encode()
    + b"event: message\nid: 3\ndata:first\ndata: second\n\n"
    b"data: [DONE]\n\ndata: never ended\n"
)
EVENTS = ['{"text": "one"}', '{"text": "二\u2028\x0b\x85"}', "first\nsecond", "[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    """Text holds characters that str.splitlines takes for line ends."""
    ends = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader()
    pieces = [STREAM[a:b] for a, b in pairwise(ends)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS
