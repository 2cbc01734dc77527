"""A run as a self-contained HTML page: made from a `RunRecord` alone, pure but for `page.write_page`.

`markup` is the only way from a string to the page; what the other modules pass around is `Html`, which `mypy` keeps
apart from `str`.
"""
