"""The life of users' factors against a small model of it, by many random stories, with callers at the same time."""
