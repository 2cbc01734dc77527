"""A run as a self-contained HTML page."""
