"""What others have trained -> this package's own folders. One module a system; the command line names them."""
