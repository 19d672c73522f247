"""The exit while daemon threads run Python code that Rust has called, one way a case.

Until 3.13 the exit unwinds such threads; through Rust's frames that aborted the process.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE
from plait import _core

BEGIN = """
import threading, time
import plait

under_way = threading.Event()

def compute(*_):
    under_way.set()
    while True:
        sum(range(20))

class Item:
    '''Computes when it is compared, or freed, or pickled, once it was said to.'''
    how = None

    def __lt__(self, other):
        if Item.how == "compared":
            compute()
        return False

    def __del__(self):
        if Item.how == "freed":
            compute()

    def __reduce__(self):
        compute()

class Guard:
    '''A lock in Python.'''

    def __init__(self, slow):
        self.lock, self.slow = threading.RLock(), slow

    def acquire(self, *args):
        if self.slow == "acquire":
            compute()
        return self.lock.acquire(*args)

    def release(self):
        if self.slow == "release":
            compute()
        self.lock.release()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()

    def _is_owned(self):
        return True
"""

END = """
threading.Thread(target=work, daemon=True).start()
assert under_way.wait(30)
time.sleep(0.02)  # so that the exit meets it in the middle
"""

WAYS = {
    "a queue compares items": """
def work():
    queue = plait.PriorityQueue()
    for _ in range(5):
        queue.put(Item())
    Item.how = "compared"
    queue.get()
""",
    "a queue goes with its items": """
def work():
    queue = plait.SimpleQueue()
    queue.put(Item())
    Item.how = "freed"
    del queue
""",
    "a condition takes its lock": """
def work():
    with plait.Condition(Guard("acquire")):
        pass
""",
    "a condition lets go of its lock": """
def work():
    condition = plait.Condition(Guard("release"))
    condition.acquire()
    condition.wait(0.01)
""",
    "a pool pickles an argument": """
pool = plait.ProcessPoolExecutor(1)

def work():
    pool.submit(id, Item())
""",
    "a map pickles an argument": """
pool = plait.ProcessPoolExecutor(1)

def work():
    list(pool.map(id, [Item(), Item()]))
""",
    "a future calls back": """
def work():
    future = plait.Future()
    future.add_done_callback(compute)
    future.set_result(1)
""",
    "a loop steps a task": """
import asyncio

async def main():
    await plait.aio.sleep(0.001)
    compute()

def work():
    asyncio.run(main())
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_exit_meets_python_below_rust(way: str) -> None:
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + WAYS[way] + END],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr.decode()) == (0, "")


# What plait's module asks of libpython that neither runs Python code nor waits for the GIL; and
# PyGILState_Ensure and PyEval_RestoreThread, which PyO3 guards itself.
RUNS_NO_PYTHON = """
PyBuffer_FillInfo PyBuffer_IsContiguous PyByteArray_AsString PyByteArray_FromStringAndSize
PyByteArray_Size PyBytes_AsString PyBytes_FromStringAndSize PyCapsule_GetPointer PyCapsule_New
PyCell_Get PyDict_Next PyErr_ExceptionMatches PyErr_Fetch PyErr_GetRaisedException
PyErr_GivenExceptionMatches PyErr_Occurred PyEval_RestoreThread PyEval_SaveThread
PyException_GetTraceback PyFloat_FromDouble PyFunction_GetCode PyFunction_GetDefaults
PyFunction_GetKwDefaults PyGILState_Check PyGILState_Ensure PyImport_GetModuleDict
PyInterpreterState_Get PyIter_Check PyLong_AsLong PyLong_AsUnsignedLongLong PyLong_FromLong
PyLong_FromSsize_t PyLong_FromUnsignedLongLong PyModuleDef_Init PyModule_GetNameObject
PyObject_GC_IsTracked PyObject_GC_Track PyObject_GC_UnTrack PyObject_GenericGetDict
PyObject_GenericSetDict PySequence_Check PyThreadState_DeleteCurrent PyThreadState_Get
PyThreadState_New PyThreadState_SetAsyncExc PyThread_get_thread_ident PyTuple_GetItem
PyType_GetModuleName PyType_GetName PyType_GetQualName PyType_IsSubtype PyType_Modified
PyUnicode_AsUTF8AndSize PyUnicode_AsUTF8String PyUnicode_EqualToUTF8AndSize
PyUnicode_FromStringAndSize PyUnicode_InternInPlace PyWeakref_GetObject PyWeakref_GetRef
Py_GetVersion Py_IsFinalizing Py_IsInitialized _Py_CheckFunctionResult
"""
GUARDS = Path(__file__).parent.parent / "src/exit_guard.rs"


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the exit unwinds no thread any more")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pthread_exit unwinds with glibc")
def test_each_function_of_libpython_is_guarded_or_runs_no_python() -> None:
    if shutil.which("nm") is None:
        pytest.skip("needs binutils' nm")
    listed = ["nm", "-D", "--undefined-only", _core.__file__]
    asked = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    functions = {
        name
        for name in asked
        if re.match("_?Py", name) and not re.search("^PyExc_|Type$|Struct$", name)
    }
    guarded = set(re.findall(r"^    fn (\w+)", GUARDS.read_text(), re.MULTILINE))
    assert "PyObject_Call" in functions & guarded
    assert functions - guarded - set(RUNS_NO_PYTHON.split()) == set()
