"""One TFDS builder a data set: `NAME.py` holds `Builder`."""
