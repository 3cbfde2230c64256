"""HTTP/1.1 under gunicorn: from a client's bytes to a WSGI app and back. Nothing here knows of stores."""
