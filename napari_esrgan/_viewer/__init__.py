"""napari's layers, viewer and preferences, without Qt."""
