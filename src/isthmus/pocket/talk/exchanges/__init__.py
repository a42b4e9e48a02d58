"""Requests with their answers, by what is asked for."""
