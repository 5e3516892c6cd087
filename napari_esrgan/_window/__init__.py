"""Qt: threads that report to a window, forms, docks and previews."""
