"""Consuming streams: entries of a Redis Stream or a Kafka topic become writes into the store."""
