"""Where videos come from: files, folders, URLs, live streams."""
