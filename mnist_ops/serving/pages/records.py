"""One record: its images, prediction, history, failure and where they came from."""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
