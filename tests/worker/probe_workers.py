"""Workers that lose patience sooner than tests do."""

from featurestore.worker import Worker


class Impatient(Worker):
    request_timeout = 0.4
    send_timeout = 2.0
