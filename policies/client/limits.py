"""What a reply of a server costs, and how often it is asked for."""

from typing import get_args

from policies.base import RequestForm

PRICES = {"gpt-4o-mini": (0.15e-6, 0.60e-6)}
"""Dollars for one input and one output token."""

ATTEMPTS = 4
"""Requests that are sent where a server fails."""

FORMS: tuple[RequestForm, ...] = get_args(RequestForm)
"""From the strictest to the one that every server knows."""

SENT_AT_MOST = ATTEMPTS * len(FORMS)
"""Requests for one reply, at most: one that fails is sent again, and in each form."""
