"""Figures of a stream: one pure fold over its events."""
