"""What `import darkpipe` gives: models, frames, fits and the functions behind them, for notebooks and programs.

Nothing here is imported before it is used (see `darkpipe.__getattr__`).
"""
