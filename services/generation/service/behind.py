"""Work done behind one's back: images are stored while the device makes the next ones."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, ParamSpec, Self, TypeVar

WRITERS = 8

P = ParamSpec("P")
T = TypeVar("T")


class Behind(Generic[T]):
    """Tasks in threads, whose results come in the order in which they were given.

    `most` tasks may be unfinished when `done` returns: what waits takes memory, and a store that
    is slower than the device must hold it up. The error of a task comes out where its result
    would; then, and when the block is left by an error, what has not begun is not begun.
    """

    def __init__(self, most: int, threads: int = WRITERS) -> None:
        self._most = most
        self._pool = ThreadPoolExecutor(threads)
        self._given: deque[Future[T]] = deque()

    def do(self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        self._given.append(self._pool.submit(task, *args, **kwargs))

    def done(self) -> Iterator[T]:
        """The results that are there; waits until at most `most` are missing."""
        while self._given and (len(self._given) > self._most or self._given[0].done()):
            yield self._given.popleft().result()

    def rest(self) -> Iterator[T]:
        """All other results."""
        while self._given:
            yield self._given.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=error is not None)
