"""Where tasks run: threads of this process, processes on this machine, or a cluster. All dask's.

One interface: a function over numbers, and each answer handed out when it comes.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import dask
from dask.callbacks import Callback

from esrgan_ext.errors import EsrganError, OptionError, SchedulerError, first_line
from esrgan_ext.inference.large.store.outcome import ChunkOutcome, stop
from esrgan_ext.models import SRNetwork
from esrgan_ext.openmp import waiting_settings

Task = Callable[[int], ChunkOutcome]
OnOutcome = Callable[[ChunkOutcome], bool]
"""Called with each answer, in the order in which they come; False stops the run."""

# Seconds until a scheduler or its first worker must have answered.
_PATIENCE = 5

# Two chunks in each process: while one is computed, the other is read or written.
_THREADS = 2


class Executor(Protocol):
    """Runs tasks.

    Attributes
    ----------
    name : str
        For people.
    dashboard : str or None
        The address of dask's dashboard.
    """

    name: str
    dashboard: str | None

    def run(self, task: Task, numbers: Sequence[int], on_outcome: OnOutcome) -> None:
        """Do `task` with every number. A task that is lost with its worker is done again."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function once, where the work is done; its errors are raised here."""


class _Stop(Exception):
    """`on_outcome` asked for the end."""


class Threads:
    """dask's threaded scheduler."""

    def __init__(self, workers: int) -> None:
        self.dashboard: str | None = None
        self._workers = workers
        self.name = f"{workers} thread{'s' if workers > 1 else ''}"

    def run(self, task: Task, numbers: Sequence[int], on_outcome: OnOutcome) -> None:
        """See `Executor`; progress comes from dask's callbacks."""
        lazily = dask.delayed(task, pure=False, traverse=False)

        def finished(key: Any, value: Any, graph: Any, state: Any, worker: Any) -> None:
            if isinstance(value, ChunkOutcome) and not on_outcome(value):
                raise _Stop

        stop.clear()
        try:
            with suppress(_Stop), Callback(posttask=finished):
                dask.compute(
                    *(lazily(number) for number in numbers),
                    scheduler="threads",
                    num_workers=self._workers,
                    optimize_graph=False,
                )
        except BaseException:
            stop.set()  # Ctrl-C should not wait for the chunks that are being computed
            raise

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class Cluster:
    """A dask.distributed scheduler, ours or somebody's."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name
        self.dashboard = client.dashboard_link

    def run(self, task: Task, numbers: Sequence[int], on_outcome: OnOutcome) -> None:
        """See `Executor`; progress comes from the futures' own events."""
        from distributed import as_completed

        futures = self._client.map(task, list(numbers), pure=False)
        number_of = {future.key: number for future, number in zip(futures, numbers, strict=True)}
        coming = as_completed(futures, loop=self._client.loop)
        del futures  # each is let go of with its answer
        stopped = False
        for future in coming:
            outcome = _outcome(future, number_of[future.key])
            future.release()
            if not on_outcome(outcome):
                stopped = True
                break
        if stopped:
            self._client.cancel(list(coming.futures), force=True)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Executor`.

        Raises
        ------
        SchedulerError
            The workers cannot do it (another version of this package, say).
        """
        try:
            return self._client.submit(function, *arguments, pure=False).result()
        except EsrganError:
            raise
        except Exception as error:
            raise SchedulerError(f"the workers cannot do the work: {first_line(error)}") from error


def _outcome(future: Any, number: int) -> ChunkOutcome:
    if future.status == "finished":
        return future.result()
    if future.status in ("cancelled", "lost"):
        raise SchedulerError(
            "the scheduler was lost in the middle of the run: what was written stays; "
            "run the same command again to continue"
        )
    error = future.exception()
    name = type(error).__name__
    if name == "KilledWorker":
        reason = (
            "each worker that took it was killed; perhaps it lacks memory: a smaller tile helps"
        )
    else:
        reason = first_line(error)
    return ChunkOutcome(number, f"chunk {number}", error=reason)


@contextmanager
def opened(
    scheduler: str, workers: int | None, memory_limit: int, networks: Mapping[str, SRNetwork]
) -> Iterator[Executor]:
    """Start, or find, what runs the tasks.

    Parameters
    ----------
    scheduler : str
        'threads', 'processes' or the address of a scheduler (tcp://host:port).
    workers : int or None
        Threads, or processes. By default two threads (one computes while the other reads or
        writes), and a process for each GPU, else two.
    memory_limit : int
        Bytes of one worker; a process that takes more is ended, and its chunks done again.
    networks : mapping of str to SRNetwork
        By their digests. Taken to a cluster's workers, once each, so that they need no weights of
        their own.

    Raises
    ------
    OptionError
        No such scheduler, or workers that cannot be had.
    SchedulerError
        The address does not answer, or has no workers.
    """
    if workers is not None and workers < 1:
        raise OptionError(f"there must be at least one worker, not {workers}")
    if scheduler == "threads":
        yield Threads(workers or _THREADS)
        return
    with ExitStack() as stack:
        if scheduler == "processes":
            yield stack.enter_context(_processes(workers or _default_processes(), memory_limit))
            return
        if "://" not in scheduler:
            raise OptionError(
                "the scheduler must be threads, processes or an address such as "
                f"tcp://host:8786, not {scheduler!r}"
            )
        if workers is not None:
            raise OptionError("a cluster has its own workers: leave out the number of workers")
        yield stack.enter_context(_cluster(scheduler, networks))


def _default_processes() -> int:
    import torch

    return torch.cuda.device_count() or 2


@contextmanager
def _processes(workers: int, memory_limit: int) -> Iterator[Cluster]:
    from distributed import Client, LocalCluster

    # distributed would give every worker one thread for its arithmetic, on however many cores.
    cores = max(1, (os.cpu_count() or 1) // workers)
    settings: dict[str, Any] = {
        "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": cores,
        # The workers share the cores: none of them may spin while another has work.
        **{f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in waiting_settings().items()},
        # Results are on disk: there is nothing to spill, and a worker that pauses above a share of
        # its memory would never come back, since allocators keep what they have.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
    }
    with dask.config.set(settings), tempfile.TemporaryDirectory(prefix="esrgan-dask-") as scratch:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the dashboard's usual port is taken
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=_THREADS,
                memory_limit=memory_limit,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:8787",
                local_directory=scratch,
                silence_logs=logging.CRITICAL,
            )
        with cluster, Client(cluster, set_as_default=False) as client:
            yield Cluster(client, f"{workers} process{'es' if workers > 1 else ''}")


@contextmanager
def _cluster(address: str, networks: Mapping[str, SRNetwork]) -> Iterator[Cluster]:
    from distributed import Client

    for name in ("distributed", "distributed.client", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what it logs is raised as well
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise SchedulerError(
            f"no dask scheduler answers at {address}: {first_line(error)}"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            raise SchedulerError(
                f"the scheduler at {address} has no workers: start some, dask worker {address}"
            ) from None
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        from esrgan_ext.inference.large.store.shipping import BringModel

        try:
            for digest, network in networks.items():
                plugin = BringModel(digest, _weights(network))
                client.register_plugin(plugin, name=f"esrgan-{digest[:16]}")
        except Exception as error:
            raise SchedulerError(
                f"the workers at {address} cannot take the model; they need this version of "
                f"esrgan-ext: {first_line(error)}"
            ) from error
        yield Cluster(client, f"{address}, {count} worker{'s' if count > 1 else ''}")


def _weights(network: SRNetwork) -> bytes:
    from esrgan_ext.weights import save_model

    with tempfile.TemporaryDirectory() as folder:
        return save_model(network, Path(folder) / "model.safetensors").read_bytes()
