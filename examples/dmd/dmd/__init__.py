"""The package behind the DMD example: data, model, task, training, metrics and report."""
