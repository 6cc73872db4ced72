"""What a backfill would do, before it is started."""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
