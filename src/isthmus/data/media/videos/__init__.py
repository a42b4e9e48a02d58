"""Videos to and from files, decoded as far as a request asks."""
