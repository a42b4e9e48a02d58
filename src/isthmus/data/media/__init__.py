"""Media to and from files, one folder a kind; limits that are held before anything is decoded."""
