"""The frames of a clip through networks: decoded ahead in one thread, encoded behind in another.

Each segment is kept when it is complete; those that an earlier run kept are only read over.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esrgan_ext.errors import ImageFileError, UpscaleCancelled
from esrgan_ext.inference.upscaler import Upscaler
from esrgan_ext.inference.video.encoder import Encoding, SegmentEncoder
from esrgan_ext.inference.video.frames import Frame
from esrgan_ext.inference.video.progress_folder import ProgressFolder
from esrgan_ext.inference.video.source import Source
from esrgan_ext.inference.workers import sharing_threads

# Frames of a batch on a GPU, which small frames alone do not fill; the engine cuts it further.
_GPU_FRAMES = 8

# Frames that wait between two threads. More would only take memory: an 8K frame has 100 MB.
_WAITING = 3

FrameProgress = Callable[[int, int | None], bool | None]
"""``progress(done, total)`` in frames (total None where unknown); False stops the run."""


class Pipeline:
    """Decoding, network and encoding of all segments that are not finished yet.

    Parameters
    ----------
    source : Source
    upscalers : list of Upscaler
        One for each device.
    encoding : Encoding or None
        None for an animation, whose frames are kept without loss.
    folder : ProgressFolder
    length : int
        Frames of a segment.
    progress : callable or None
        See `upscale_video`.

    Attributes
    ----------
    frames, computed : int
        Frames that are done, and those of them that went through the network.
    durations : list of int
        Durations of all frames that were read, in the clip's time base.
    """

    def __init__(
        self,
        source: Source,
        upscalers: list[Upscaler],
        encoding: Encoding | None,
        folder: ProgressFolder,
        length: int,
        progress: FrameProgress | None,
    ) -> None:
        self._source, self._encoding = source, encoding
        self._networks = Networks(upscalers)
        self._folder, self._length, self._progress = folder, length, progress
        self._batch = 1 if all(up.device.is_cpu for up in upscalers) else _GPU_FRAMES
        self._before: np.ndarray | None = None
        self._last: np.ndarray | None = None
        self._begun: deque[_Begun] = deque()
        self.frames = self.computed = 0
        self.durations: list[int] = []

    @property
    def segments(self) -> int:
        return -(-self.frames // self._length)

    def run(self) -> ImageFileError | None:
        """Do it; the damage that ended the source early, if any."""
        damage: ImageFileError | None = None
        with ThreadPoolExecutor(1, "esrgan-encode") as encoding, self._networks:
            writer = _SegmentWriter(encoding, self._encoding, self._folder, self._length)
            try:
                with _read_ahead(self._source) as frames:
                    pending: list[Frame] = []
                    while True:
                        try:
                            frame = next(frames, None)
                        except ImageFileError as error:
                            damage, frame = error, None
                        if frame is None:
                            break
                        self.durations.append(frame.duration)
                        number = self.frames + len(pending) + self._waiting
                        if self._folder.finished(number // self._length):
                            self._do(pending, writer)
                            self._finish(writer, 0)
                            self.frames += 1
                            self._tell()
                            continue
                        pending.append(frame)
                        if len(pending) == self._batch:
                            self._do(pending, writer)
                    self._do(pending, writer)
                    self._finish(writer, 0)
                writer.end()
            finally:
                writer.close()
        return damage

    @property
    def _waiting(self) -> int:
        """Frames that are with the networks."""
        return sum(len(begun.frames) for begun in self._begun)

    def _do(self, pending: list[Frame], writer: _SegmentWriter) -> None:
        """Give frames to the networks, and the encoder what is ready, in order.

        A frame that equals the one before shares its result.
        """
        if not pending:
            return
        new: list[np.ndarray] = []
        which: list[int] = []
        for frame in pending:
            if self._before is None or not np.array_equal(self._before, frame.pixels):
                new.append(frame.pixels)
            which.append(len(new))
            self._before = frame.pixels
        self.computed += len(new)
        self._begun.append(_Begun(list(pending), which, self._networks.begin(new)))
        pending.clear()
        self._finish(writer, self._networks.ahead)

    def _finish(self, writer: _SegmentWriter, left: int) -> None:
        """Wait for the oldest results until as many batches as `left` are with the networks."""
        while len(self._begun) > left:
            begun = self._begun.popleft()
            results = [self._last, *begun.results.result()]
            for frame, index in zip(begun.frames, begun.which, strict=True):
                pixels = results[index]
                assert pixels is not None
                writer.add(self.frames, Frame(pixels, frame.time, frame.duration))
                self._last = pixels
                self.frames += 1
                self._tell()

    def _tell(self) -> None:
        if (
            self._progress is not None
            and self._progress(self.frames, self._source.clip.frames) is False
        ):
            raise UpscaleCancelled("the run was stopped; run it again to continue")


@dataclass(frozen=True, eq=False)
class _Begun:
    """Frames that are with a network, and which of its results each takes: 0 is the one before."""

    frames: list[Frame]
    which: list[int]
    results: Future[list[np.ndarray]]


class Networks:
    """The upscalers of a clip, one a device; whichever is free takes the next frames."""

    def __init__(self, upscalers: list[Upscaler]) -> None:
        self._free: queue.SimpleQueue[Callable[[np.ndarray], np.ndarray]] = queue.SimpleQueue()
        calls: list[Callable[[np.ndarray], np.ndarray]] = list(upscalers)
        for call in sharing_threads(calls, upscalers):
            self._free.put(call)
        # One batch more than there are devices, so that none waits for the oldest result.
        self.ahead = len(upscalers) if len(upscalers) > 1 else 0
        self._pool = ThreadPoolExecutor(len(upscalers), "esrgan-network")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, frames: list[np.ndarray]) -> Future[list[np.ndarray]]:
        """The results of frames of one size, when they are there."""
        return self._pool.submit(self._run, frames)

    def _run(self, frames: list[np.ndarray]) -> list[np.ndarray]:
        if not frames:
            return []
        call = self._free.get()
        try:
            if len(frames) == 1:
                return [call(frames[0])]
            return list(call(np.stack(frames)))
        finally:
            self._free.put(call)


class _SegmentWriter:
    """Encodes frames in a thread, and keeps each segment when it is complete."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        encoding: Encoding | None,
        folder: ProgressFolder,
        length: int,
    ) -> None:
        self._encoding, self._folder, self._length = encoding, folder, length
        self._queue: queue.Queue[tuple[int, Frame] | None] = queue.Queue(_WAITING)
        self._future = pool.submit(self._work)
        self._ended = False

    def add(self, number: int, frame: Frame) -> None:
        """Queue the `number`-th frame of the clip."""
        self._put((number, frame))

    def end(self) -> None:
        """All frames were added: wait until they are kept."""
        self._ended = True
        self._put(None)
        self._future.result()

    def close(self) -> None:
        """After an error: let the thread end without the segment that it is at."""
        if not self._ended:
            self._ended = True
            while not self._future.done():
                try:
                    self._queue.put((-1, Frame(np.empty(0), 0)), timeout=0.1)
                    break
                except queue.Full:
                    continue

    def _put(self, item: tuple[int, Frame] | None) -> None:
        while True:
            try:
                self._queue.put(item, timeout=0.2)
                return
            except queue.Full:
                if self._future.done():
                    self._future.result()  # raises what ended it
                    raise RuntimeError("the encoder's thread is gone") from None

    def _work(self) -> None:
        encoder: SegmentEncoder | _Stills | None = None
        current = 0
        while True:
            item = self._queue.get()
            if item is not None and item[0] < 0:
                return
            number = -1 if item is None else item[0] // self._length
            if encoder is not None and number != current:
                self._folder.keep(current, encoder.finish().save)
                encoder = None
            if item is None:
                return
            current = number
            if encoder is None:
                encoder = SegmentEncoder(self._encoding) if self._encoding else _Stills()
            encoder.add(item[1])


class _Stills:
    """The frames of a segment of an animation, without loss."""

    def __init__(self) -> None:
        self._frames: list[np.ndarray] = []

    def add(self, frame: Frame) -> None:
        pixels = frame.pixels
        if pixels.dtype == np.uint16:
            pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        self._frames.append(pixels)

    def finish(self) -> _Stills:
        return self

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, frames=np.stack(self._frames))


class _read_ahead:
    """The frames of a source, decoded in a thread a few ahead of their use."""

    def __init__(self, source: Source) -> None:
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(source,), daemon=True)

    def __enter__(self) -> Iterator[Frame]:
        self._thread.start()
        return self._taken()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _taken(self) -> Iterator[Frame]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _work(self, source: Source) -> None:
        try:
            for frame in source.frames():
                self._queue.put(frame)
                if self._stop.is_set():
                    return
        except BaseException as error:
            self._queue.put(error)
            return
        self._queue.put(None)
