"""Neither Qt nor napari: requests, models, the work itself and its results."""
