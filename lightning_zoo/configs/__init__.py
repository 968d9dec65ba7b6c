"""One complete configuration per method and dataset."""
