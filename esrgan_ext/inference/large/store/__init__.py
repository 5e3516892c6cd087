"""A store on disk: options, preparation, tasks, executors, resuming, the pyramid.

Words: a *task* is the work on one chunk, and a *chunk outcome* its answer; a *store job* is the
part that all tasks of a run share; a *plan* is the record in an unfinished result of everything
that it depends on, by which a later run knows whether to continue it.
"""
