"""The API's routes, a file each."""
