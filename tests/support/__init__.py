"""Helpers that several tests share: servers that start on free loopback ports and are stopped again."""
