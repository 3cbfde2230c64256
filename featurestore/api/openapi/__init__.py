"""The contract of the HTTP interface as OpenAPI 3.1, made of the app's routes, types and tables."""
