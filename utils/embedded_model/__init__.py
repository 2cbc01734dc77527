"""The model that needs no key: fetched once, verified, run in a child process."""
