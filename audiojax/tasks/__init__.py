"""What a step is: `NAME.py` holds `Task` with `init`, `train_step` and `eval_step`."""
