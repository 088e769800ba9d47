"""One file a family of networks: `NAME.py` holds `Model`, a pure Flax linen module."""
