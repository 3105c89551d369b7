"""What the server costs: `python -m bench`, beside the same work written by hand without what a server may not leave out."""
