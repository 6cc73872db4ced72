"""The list of runs, and one run: its ledger, its records and what a person can do about them."""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
