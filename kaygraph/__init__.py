"""A small node-graph library: nodes do one step each, graphs run them along named edges.

    class Greet(Node):
        def prep(self, shared):
            return shared["name"]

        def exec(self, prep_res):
            return f"Hello {prep_res}"

        def post(self, shared, prep_res, exec_res):
            shared["greeting"] = exec_res
            return "polite"

    greet = Greet(max_retries=3, wait=0.5)
    greet - "polite" >> Bow()
    Graph(start=greet).run(shared)

An independent implementation of the core API of KayGraph 0.3.2; it needs nothing but the standard library.
It logs under `kaygraph.<class name>`: names, times and the types of errors, never params, results or error texts.
"""

import logging

from kaygraph._typing import T_Action, T_ExecRes, T_Params, T_PrepRes, T_Shared
from kaygraph.async_graph import AsyncBatchGraph, AsyncGraph, AsyncParallelBatchGraph
from kaygraph.async_node import AsyncBatchNode, AsyncNode, AsyncParallelBatchNode
from kaygraph.base import BaseNode
from kaygraph.batch import BatchNode, ParallelBatchNode
from kaygraph.config import Config
from kaygraph.graph import BatchGraph, Graph
from kaygraph.metrics import MetricsNode
from kaygraph.node import Node
from kaygraph.validated import ValidatedNode

__all__ = [
    "AsyncBatchGraph",
    "AsyncBatchNode",
    "AsyncGraph",
    "AsyncNode",
    "AsyncParallelBatchGraph",
    "AsyncParallelBatchNode",
    "BaseNode",
    "BatchGraph",
    "BatchNode",
    "Config",
    "Graph",
    "MetricsNode",
    "Node",
    "ParallelBatchNode",
    "T_Action",
    "T_ExecRes",
    "T_Params",
    "T_PrepRes",
    "T_Shared",
    "ValidatedNode",
    "__version__",
]

__version__ = "0.3.2"
"""The version of the KayGraph core API that this package implements."""

logging.getLogger("kaygraph").addHandler(logging.NullHandler())
