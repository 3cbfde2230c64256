"""How many examples Hypothesis tries in tests that `make quick` runs too."""

from hypothesis import settings

USUAL = 100
"""What Hypothesis tries where nobody says otherwise."""

settings.register_profile("quick", max_examples=USUAL // 5)


def examples(count: int) -> int:
    """Return how many examples to try: `count`, or a fifth of them under the profile "quick"."""
    return count * settings().max_examples // USUAL
