"""Results for people: pages, media as bytes that a browser shows, and where a test run's figures go."""
