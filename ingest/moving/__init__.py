"""Stores moved from one Redis to another, while both are in use."""
