"""Networks: graphs of layers, and the passes that rewrite them."""

from engine.graph.graph import INPUT, Graph, GraphBuilder, Node, Sharding

__all__ = ["INPUT", "Graph", "GraphBuilder", "Node", "Sharding"]
