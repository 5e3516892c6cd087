"""A store on disk: options, preparation, tasks, executors, resuming, the pyramid."""
