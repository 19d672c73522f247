"""What the lab's process of greenlets runs; a part of `plait.lab`, apart so that it starts soon."""

from __future__ import annotations

import pickle
import signal
import warnings

from . import _byvalue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from typing import Any

__all__ = ["serve"]


def serve(connection: Connection[Any, Any], work: bytes, workers: int) -> None:
    """Run in the process: a round each time that it is asked for, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    import gevent
    from gevent import monkey

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some modules were there before; the tasks use others
        monkey.patch_all()
    from gevent.pool import Pool

    hub: Any = gevent.get_hub()
    hub.NOT_ERROR = (Exception,)  # what a task raises is a row's reason, and not printed here
    task, items = pickle.loads(work)
    pool = Pool(workers)
    connection.send_bytes(_byvalue.dumps((True, None)))
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        try:
            answer = (True, pool.map(task, items))
        except BaseException as error:
            answer = (False, error)
        try:
            pickled = _byvalue.dumps(answer, name="results", to_sender=True)
        except Exception as error:  # it cannot be pickled
            pickled = pickle.dumps((False, RuntimeError(str(error))))
        connection.send_bytes(pickled)
