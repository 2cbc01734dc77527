"""Sinks: the only code that prints, and the only importer of rich.

`factory.create_sinks` chooses the sinks of a run. Plain and JSON sinks need the standard library alone; the modules
that import rich (`painter`, `monitor`, `terminal`) are loaded when a terminal is really drawn on.
"""
