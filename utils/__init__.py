"""Everything below the nodes: pure cores and thin edges (the map stands in docs/architecture.md)."""
