"""How the API is run: the app of a worker, gunicorn's settings and master, and the commands serve and demo."""
