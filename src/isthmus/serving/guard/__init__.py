"""What stands between the server and what strangers send it."""
