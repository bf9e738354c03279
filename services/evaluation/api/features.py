"""Routes of features that labs extract themselves."""

from pathlib import Path
from typing import Any
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from api_schemas.base import DeletionView, Page
from api_schemas.features import FeaturesRequest, FeaturesView
from services.evaluation.service import FeatureTables
from services.evaluation.service.features import FILE_LIMIT
from services.kit.auth import Reader, Writer
from services.kit.deletion import Deletions, DerivedQuery
from services.kit.http import COUNTS_ITSELF, Admit, CursorQuery, IdempotencyHeader, LimitQuery
from services.kit.uploads import FILE, invalid, received

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "version", "data", "file"],
                    "properties": {
                        "name": {"type": "string", "maxLength": 60},
                        "version": {"type": "string", "maxLength": 60},
                        "data": {
                            "type": "string",
                            "description": "dataset/{id} or generation/{id}",
                        },
                        "file": {"type": "string", "format": "binary"},
                    },
                },
                "example": {
                    "name": "inception-v3",
                    "version": "pool3-fid",
                    "data": "generation/019a0000-0000-7000-8000-000000000003",
                    "file": "features.npz",
                },
            }
        },
    }
}


def feature_routes(tables: FeatureTables, deletions: Deletions, scratch: Path) -> APIRouter:
    router = APIRouter(tags=["evaluation"])
    _tables(router, tables, scratch)
    _deletion(router, deletions)
    return router


def _tables(router: APIRouter, tables: FeatureTables, scratch: Path) -> None:
    @router.post("/features", status_code=201, openapi_extra=FORM, max_body_size=COUNTS_ITSELF)
    async def post_features(
        request: Request,
        caller: Writer,
        response: Response,
        admit: Admit,
        idempotency_key: IdempotencyHeader = None,
    ) -> FeaturesView:
        """Give features of a dataset's or cohort's images, for `/qualities` to measure with.

        Parquet (`sample_id` and a column of lists, or one of numbers for each dimension) or npz
        (`sample_id` and `vector`).
        """
        async with received(request, scratch, FILE_LIMIT) as form:
            try:
                asked = FeaturesRequest.model_validate(form.told)
            except ValidationError as error:
                raise invalid(error.errors(), form.fields) from error
            async with admit():
                view = await to_thread.run_sync(
                    tables.take, caller, asked, form.files[FILE], idempotency_key
                )
        response.headers["Location"] = f"/features/{view.id}"
        return view

    @router.get("/features")
    def list_features(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[FeaturesView]:
        """The project's feature tables, newest first."""
        return tables.browse(caller, cursor, limit)

    @router.get("/features/{table}")
    def get_features(table: UUID, caller: Reader) -> FeaturesView:
        """What the table is of, and its dimension."""
        return tables.table(caller, table)


def _deletion(router: APIRouter, deletions: Deletions) -> None:
    @router.get("/features/{table}/deletion")
    def get_features_deletion(table: UUID, caller: Reader) -> DeletionView:
        """What deleting it would take, or how far its deletion is."""
        return deletions.look(caller, table)

    @router.delete("/features/{table}", status_code=202)
    def delete_features(
        table: UUID, caller: Writer, response: Response, derived: DerivedQuery = False
    ) -> DeletionView:
        """Delete it."""
        response.headers["Location"] = f"/features/{table}/deletion"
        return deletions.delete(caller, table, derived=derived)
