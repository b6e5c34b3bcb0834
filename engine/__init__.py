"""The engine: everything about learning that is not a strategy, a network or a dataset. Import from `ganglion.engine.api`."""
