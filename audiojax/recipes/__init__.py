"""What an experiment is: `NAME.py` holds `run`."""
