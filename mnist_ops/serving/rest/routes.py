"""The routes of the REST API."""

from fastapi import APIRouter

router = APIRouter()
