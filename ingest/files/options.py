"""Options that commands which read files have in common."""

import click

from .times import AUTO, PER_SECOND

unit_option = click.option(
    "--event-time-unit",
    type=click.Choice([AUTO, *PER_SECOND]),
    default=AUTO,
    show_default=True,
    help="Unit of event times that are numbers; `auto` tells it by their magnitude.",
)
