"""Sinks: the only code that prints."""
