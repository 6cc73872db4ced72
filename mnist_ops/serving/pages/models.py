"""The released models: metrics, promotion and rollback."""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
