"""One file per model. `ftrain.task.tasks()` finds every `Task` subclass here; nothing is registered by hand."""
