"""Validators of answers: they read the raw text while it streams and say where it can no longer become valid."""
