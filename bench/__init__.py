"""What the server costs, beside the same work without what a server may not leave out: `python -m bench`."""
