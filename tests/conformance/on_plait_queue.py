"""`test.test_queue` on plait's queues; run by test_cpython.py."""

from __future__ import annotations

import on_plait
import plait
import test.test_queue as suite


class QueueTest(suite.CQueueTest):
    queue = plait


class LifoQueueTest(suite.CLifoQueueTest):
    queue = plait


class PriorityQueueTest(suite.CPriorityQueueTest):
    queue = plait


class FailingQueueTest(suite.CFailingQueueTest):
    queue = plait


class SimpleQueueTest(suite.CSimpleQueueTest):
    queue = plait


on_plait.skip(globals(), "queue")
