"""The HTTP interface: what a request becomes, and what is answered."""
