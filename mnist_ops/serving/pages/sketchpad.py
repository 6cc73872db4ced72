"""A digit drawn by hand, classified while it is drawn."""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
