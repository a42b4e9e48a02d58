"""Reports: HTML pages, media encoded for browsers, and the files of a test run's figures."""
