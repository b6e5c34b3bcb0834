"""The engine: all of learning that is not a strategy, a network or a dataset. Import from `ganglion.engine.api`."""
