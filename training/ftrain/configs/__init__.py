"""The `model` section of each task: one file a task, of the same name, whose last class is its configuration."""
