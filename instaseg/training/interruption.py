"""Ctrl-C and termination, put off until the weights are in order."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Literal, Self


class Interruption:
    """Inside its block a first SIGINT or SIGTERM only sets :attr:`requested`.

    Signals reach the main thread only; elsewhere the block does nothing.

    Parameters
    ----------
    repeated : {"at once", "never"}
        Whether a second one raises KeyboardInterrupt. Not under torchrun, which passes on the
        terminal's signal that its processes have had already, and in the end kills them.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, repeated: Literal["at once", "never"] = "at once") -> None:
        self._repeated = repeated
        self.requested = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._SIGNALS:
                self._handlers[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _request(self, _: int, __: FrameType | None) -> None:
        if self.requested and self._repeated == "at once":
            raise KeyboardInterrupt
        self.requested = True
