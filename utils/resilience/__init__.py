"""Breaker, retry policy, resume, and the driver that puts them around a stream."""
