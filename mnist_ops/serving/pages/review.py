"""Review: the least certain predictions, and the audit of a random sample."""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
