"""The window in napari: docks, canvases and what they share. Nothing outside this folder imports Qt."""
