"""Communication between ranks; it knows no layer."""
