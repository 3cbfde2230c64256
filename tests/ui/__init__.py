"""The page at `/ui`, in headless Chromium against the real server."""
