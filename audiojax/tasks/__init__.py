"""What a training step is: each module but `network` has a class Task, which `task.name` names."""
